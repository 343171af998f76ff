from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from simulators import g711, speech

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("rate_hz", [8000, 24000])
@pytest.mark.parametrize("voice", sorted(speech.VOICES))
def test_every_voice_speaks_at_a_sane_level(voice: str, rate_hz: int) -> None:
    spoken = speech.speak("Hello, how can I help you?", voice=voice, rate_hz=rate_hz)
    assert 0.7 < len(spoken) / rate_hz < 4
    assert -24 < g711.rms_dbfs(spoken) < -17


def test_voices_differ() -> None:
    sounds = {speech.speak("Hello.", voice=v, rate_hz=8000).tobytes() for v in speech.VOICES}
    assert len(sounds) == len(speech.VOICES)


def test_there_is_no_silence_at_either_end() -> None:
    spoken = speech.speak("Hello.", voice="marin", rate_hz=8000)
    assert g711.rms_dbfs(spoken[:400]) > -60
    assert g711.rms_dbfs(spoken[-400:]) > -60


def test_a_text_without_sound_is_an_empty_array() -> None:
    assert len(speech.speak("", voice="marin", rate_hz=8000)) == 0


def test_an_unknown_voice_still_speaks() -> None:
    assert len(speech.speak("Hello.", voice="voice_custom", rate_hz=8000)) > 0


def test_the_shared_array_cannot_be_spoilt() -> None:
    spoken = speech.speak("Hello.", voice="marin", rate_hz=8000)
    with pytest.raises(ValueError, match="read-only"):
        spoken[0] = 0


def test_an_endless_text_is_refused() -> None:
    with pytest.raises(speech.SpeechError, match="characters"):
        speech.speak("a" * 5001, voice="marin", rate_hz=8000)


def test_threads_do_not_mix_their_words() -> None:
    texts = [f"This is sentence number {n}." for n in range(8)]
    alone = [speech.speak.__wrapped__(t, voice="marin", rate_hz=8000) for t in texts]
    with ThreadPoolExecutor(max_workers=4) as pool:
        together = list(
            pool.map(lambda t: speech.speak.__wrapped__(t, voice="marin", rate_hz=8000), texts)
        )
    for one, other in zip(alone, together, strict=True):
        assert len(one) == pytest.approx(len(other), rel=0.05)
        assert np.isfinite(g711.rms_dbfs(other))
