import wave
from pathlib import Path

import numpy as np
import pytest

from simulators import g711
from simulators.recording import Recording
from tests.unit.simulators.voice_server import tone

pytestmark = pytest.mark.unit


def test_both_tracks_are_as_long_as_the_longer_one() -> None:
    recording = Recording()
    recording.write_said(0, tone(40))
    recording.write_heard(800, tone(100))
    assert recording.duration_ms == 200
    assert len(recording.said) == len(recording.heard) == 1600
    assert not recording.said[320:].any()
    assert not recording.heard[:800].any()


def test_segments_are_stretches_of_sound() -> None:
    recording = Recording()
    recording.write_heard(8000, tone(200))
    recording.write_heard(8000 + 2400, tone(200))  # 100 ms later: the same stretch
    recording.write_heard(8000 + 8000, tone(200))
    assert recording.segments("heard") == [(1000, 1500), (2000, 2200)]
    assert recording.segments("heard", min_gap_ms=50) == [(1000, 1200), (1300, 1500), (2000, 2200)]
    assert recording.segments("heard", threshold_dbfs=-1) == []
    assert recording.segments("said") == []


def test_announcements_are_heard_and_are_not_the_agent() -> None:
    recording = Recording()
    recording.write_heard(0, tone(100), announcement=True)
    recording.write_heard(8000, tone(100))
    assert recording.segments("heard") == [(0, 100), (1000, 1100)]
    assert recording.segments("agent") == [(1000, 1100)]
    assert recording.loudness("heard", 2) > -20
    assert recording.loudness("agent", 2) == g711.SILENCE_DBFS
    assert recording.loudness("agent", 51) > -20


def test_wav_has_the_caller_left_and_the_agent_right(tmp_path: Path) -> None:
    recording = Recording()
    recording.write_said(0, tone(20))
    recording.write_heard(160, tone(20))
    recording.write_wav(tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        stereo = np.frombuffer(file.readframes(1000), "<i2").reshape(-1, 2)
    assert np.array_equal(stereo[:, 0], recording.said)
    assert np.array_equal(stereo[:, 1], recording.heard)


def test_recording_ends_after_an_hour() -> None:
    recording = Recording()
    recording.write_said(60 * 60 * 8000, tone(20))
    assert recording.duration_ms == 0
