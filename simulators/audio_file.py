"""Reads WAV files for the simulators."""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators import g711

__all__ = ["read_wav"]


def read_wav(path: Path, rate_hz: int) -> NDArray[np.int16]:
    """Return a 16-bit WAV file as mono samples at this rate; raise ValueError if it is not one."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, from_hz = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as exc:
        raise ValueError(f"{path} is not a WAV file: {exc}") from None
    if width != 2:
        raise ValueError(f"{path} has {8 * width} bits a sample; 16 are needed")
    samples = np.frombuffer(frames, dtype="<i2").reshape(-1, channels).mean(axis=1)
    return g711.resample(samples.astype(np.int16), from_hz, rate_hz)
