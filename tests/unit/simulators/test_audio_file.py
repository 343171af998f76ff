import wave
from pathlib import Path

import numpy as np
import pytest

from simulators.audio_file import read_wav

pytestmark = pytest.mark.unit


def _write(path: Path, samples: np.ndarray, *, channels: int, rate_hz: int, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate_hz, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def test_stereo_becomes_mono(tmp_path: Path) -> None:
    stereo = np.array([[100, 300], [-100, -300]], dtype="<i2")
    path = _write(tmp_path / "a.wav", stereo, channels=2, rate_hz=8000)
    assert read_wav(path, 8000).tolist() == [200, -200]


def test_other_rate_is_resampled(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.wav", np.zeros(4800, "<i2"), channels=1, rate_hz=48000)
    assert len(read_wav(path, 8000)) == 800


def test_other_sample_width_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.wav", np.zeros(8, "u1"), channels=1, rate_hz=8000, width=1)
    with pytest.raises(ValueError, match="has 8 bits a sample; 16 are needed"):
        read_wav(path, 8000)


def test_what_is_no_wav_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("hello")
    with pytest.raises(ValueError, match="is not a WAV file"):
        read_wav(tmp_path / "a.wav", 8000)
