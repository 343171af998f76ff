"""What is kept until the owner listens: in order, bounded, control never lost to audio."""

import pytest
from hypothesis import given, strategies as st

from services.gateway.early import Early
from shared.messages import DtmfPressed, Message

pytestmark = pytest.mark.unit


def test_everything_comes_out_in_order_once() -> None:
    hold = Early(audio_max_bytes=100, controls_max=5)
    key = DtmfPressed(digit="5")
    assert hold.keep_audio(b"a") == 0
    assert hold.keep_control(key)
    assert hold.keep_audio(b"b") == 0
    assert list(hold.release()) == [b"a", key, b"b"]
    assert list(hold.release()) == []


@given(st.lists(st.binary(min_size=1, max_size=30) | st.sampled_from("0123"), max_size=60))
def test_the_newest_audio_and_all_control_stay(things: list[bytes | str]) -> None:
    hold = Early(audio_max_bytes=100, controls_max=100)
    dropped = 0
    keys = []
    for one in things:
        if isinstance(one, bytes):
            dropped += hold.keep_audio(one)
        else:
            keys.append(one)
            assert hold.keep_control(DtmfPressed(digit=one))
    kept: list[bytes | Message] = list(hold.release())
    audio = b"".join(one for one in kept if isinstance(one, bytes))
    said = b"".join(one for one in things if isinstance(one, bytes))
    assert len(audio) <= 100
    assert len(audio) + dropped == len(said)
    assert said.endswith(audio)
    assert [one.digit for one in kept if isinstance(one, DtmfPressed)] == keys


def test_too_much_control_is_refused() -> None:
    hold = Early(audio_max_bytes=100, controls_max=2)
    key = DtmfPressed(digit="5")
    assert [hold.keep_control(key) for _ in range(3)] == [True, True, False]
