"""Voice detection on real speech, by the clock of the audio appended."""

from typing import Any

import numpy as np
import pytest

from simulators import g711, speech
from simulators.realtime.vad import Detector, SpeechStarted, SpeechStopped

pytestmark = pytest.mark.unit


def settings(**fields: Any) -> dict[str, Any]:
    return {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    } | fields


def line(*parts: g711.Pcm) -> g711.Pcm:
    """Join sounds and pass them through the telephone's codec."""
    return g711.decode(g711.encode(np.concatenate(parts)))


def quiet(ms: int) -> g711.Pcm:
    """Return the noise of a quiet line, about -66 dBFS."""
    return np.random.default_rng(1).integers(-28, 28, ms * 8).astype(np.int16)


def words(text: str = "Hello, can you tell me your opening hours?") -> g711.Pcm:
    return speech.speak(text, voice="caller", rate_hz=8000)


def heard(
    detector: Detector, samples: g711.Pcm, piece: int = 160
) -> list[SpeechStarted | SpeechStopped]:
    facts = []
    for start in range(0, len(samples), piece):
        facts += detector.append(samples[start : start + piece], 8000)
    return facts


@pytest.mark.parametrize("piece", [80, 160, 1000, 100_000])
def test_speech_is_found_where_it_is_however_it_is_cut(piece: int) -> None:
    spoken = words()
    spoken_ms = len(spoken) / 8
    facts = heard(Detector(settings()), line(quiet(1000), spoken, quiet(1000)), piece)
    started, stopped = facts
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert 690 <= started.audio_start_ms <= 800  # 1000 less the padding
    assert 1000 + spoken_ms + 300 <= stopped.audio_end_ms <= 1000 + spoken_ms + 540


@pytest.mark.parametrize("voice", sorted(speech.VOICES))
def test_every_voice_is_heard(voice: str) -> None:
    spoken = speech.speak("Hello, good morning.", voice=voice, rate_hz=8000)
    assert len(heard(Detector(settings()), line(spoken, quiet(1000)))) == 2


def test_a_quiet_line_and_a_click_are_not_speech() -> None:
    click = np.full(160, 20_000, dtype=np.int16)
    assert heard(Detector(settings()), line(quiet(2000), click, quiet(2000))) == []


def test_the_prefix_never_reaches_before_the_beginning() -> None:
    (started,) = heard(Detector(settings()), line(words("Hello there.")))
    assert started == SpeechStarted(0)


def test_a_pause_shorter_than_the_silence_asked_for_does_not_end_the_turn() -> None:
    audio = line(words("Hello."), quiet(900), words("Are you there?"), quiet(2000))
    assert len(heard(Detector(settings(silence_duration_ms=400)), audio)) == 4
    assert len(heard(Detector(settings(silence_duration_ms=1200)), audio)) == 2


def test_a_higher_threshold_does_not_hear_a_soft_voice() -> None:
    soft = (words() / 10).astype(np.int16)
    audio = line(soft, quiet(1000))
    assert heard(Detector(settings(threshold=0.2)), audio)
    assert not heard(Detector(settings(threshold=0.9)), audio)


def test_semantic_vad_waits_longer_when_it_is_less_eager() -> None:
    audio = line(words(), quiet(3000))
    ends = []
    for eagerness in ("high", "medium", "low"):
        detector = Detector({"type": "semantic_vad", "eagerness": eagerness})
        _started, stopped = heard(detector, audio)
        assert isinstance(stopped, SpeechStopped)
        ends.append(stopped.audio_end_ms)
    assert ends == sorted(set(ends))


def test_no_detection_hears_nothing_but_the_clock_runs() -> None:
    detector = Detector(None)
    audio = line(words(), quiet(1000))
    assert heard(detector, audio) == []
    assert detector.clock_ms == len(audio) / 8


def test_switching_detection_off_ends_open_speech_silently() -> None:
    detector = Detector(settings())
    (started,) = heard(detector, line(words()))
    assert isinstance(started, SpeechStarted)
    detector.configure(None)
    assert not detector.speaking
    assert heard(detector, line(quiet(2000))) == []
