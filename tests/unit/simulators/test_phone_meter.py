import pytest

from simulators.phone_meter import Meter

pytestmark = pytest.mark.unit

_LOUD, _QUIET = -20.0, -90.0


def _fed(meter: Meter, loudness: float, ms: int) -> Meter:
    for _ in range(ms // 20):
        meter.feed(loudness)
    return meter


def test_nothing_was_heard_yet() -> None:
    meter = Meter()
    assert not meter.audible
    _fed(meter, _QUIET, 400)
    assert (meter.audible, meter.quiet_ms, meter.utterance_ms) == (False, 400, 0)


def test_utterance_spans_short_silences() -> None:
    meter = _fed(_fed(_fed(Meter(), _LOUD, 200), _QUIET, 400), _LOUD, 100)
    assert meter.audible
    assert (meter.utterance_began_ms, meter.utterance_ms, meter.first_sound_ms) == (0, 700, 0)


def test_longer_silence_ends_an_utterance() -> None:
    meter = _fed(_fed(Meter(), _LOUD, 200), _QUIET, 600)
    assert (meter.audible, meter.utterance_ms, meter.quiet_ms) == (False, 0, 600)
    _fed(meter, _LOUD, 100)
    assert (meter.last_began_ms, meter.utterance_ms) == (800, 100)


def test_utterance_that_was_cut_off_is_not_continued() -> None:
    meter = _fed(Meter(), _LOUD, 200)
    meter.end_utterance()
    assert meter.utterance_ms == 0
    _fed(meter, _LOUD, 100)
    assert (meter.utterance_began_ms, meter.utterance_ms) == (200, 100)
