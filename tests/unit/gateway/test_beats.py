"""Which workers are alive."""

import pytest

from services.gateway.beats import DEAD_AFTER_S, Beats

pytestmark = pytest.mark.unit


def test_a_worker_that_beats_is_alive_and_one_that_stops_is_dead() -> None:
    beats = Beats(now=0.0)
    beats.heard("w", 10.0)
    assert not beats.is_dead("w", 10.0 + DEAD_AFTER_S)
    assert beats.is_dead("w", 10.1 + DEAD_AFTER_S)
    beats.heard("w", 20.0)
    assert not beats.is_dead("w", 20.5)


def test_a_gateway_that_has_just_begun_to_listen_believes_nobody_dead() -> None:
    beats = Beats(now=100.0)
    assert not beats.is_dead("never heard", 101.0)
    assert beats.is_dead("never heard", 100.1 + DEAD_AFTER_S)


def test_while_the_bus_is_away_nobodys_silence_counts() -> None:
    beats = Beats(now=0.0)
    beats.heard("w", 1.0)
    beats.deaf(60.0)
    assert not beats.is_dead("w", 61.0)
    assert beats.is_dead("w", 60.1 + DEAD_AFTER_S)
