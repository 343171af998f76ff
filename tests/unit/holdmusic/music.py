"""Music for tests: made here, encoded by `av` into real files."""

import io
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from services.holdmusic import waves
from shared.audio import AudioFormat

Signal = npt.NDArray[np.float32]


def tune(seconds: float, rate_hz: int, *, seed: int = 1, level: float = 0.3) -> Signal:
    """Something with a beginning, a middle and an end: notes at random, the same for a seed."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    out = np.zeros(len(at), dtype=np.float32)
    for start in np.arange(0, seconds, 0.25):
        inside = (at >= start) & (at < start + 0.25)
        hz = rng.uniform(200, 1500)
        shape = np.sin(np.pi * (at[inside] - start) / 0.25) ** 0.5
        out[inside] = shape * np.sin(2 * np.pi * hz * at[inside])
    return (level * out).astype(np.float32)


def silence(seconds: float, rate_hz: int) -> Signal:
    return np.zeros(round(seconds * rate_hz), dtype=np.float32)


def file_of(
    signal: Signal, rate_hz: int, container: str, codec: str, *, stereo: bool = False
) -> bytes:
    """A real file; stereo has the same on both sides, the right one quieter."""
    out = io.BytesIO()
    layout = "stereo" if stereo else "mono"
    with av.open(out, "w", format=container) as file:
        options: dict[str, Any] = {"layout": layout}
        stream: Any = file.add_stream(codec, rate=rate_hz, **options)
        planes = np.stack([signal, 0.5 * signal]) if stereo else signal.reshape(1, -1)
        frame = AudioFrame.from_ndarray(
            np.ascontiguousarray(planes, dtype=np.float32), format="fltp", layout=layout
        )
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout=layout, rate=rate_hz
        )
        for part in resampler.resample(frame) + resampler.resample(None):
            for packet in stream.encode(part):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    return out.getvalue()


def mp3(seconds: float = 3.0, *, seed: int = 1, level: float = 0.3) -> bytes:
    """The usual track: MP3, 44.1 kHz, stereo."""
    signal = tune(seconds, 44100, seed=seed, level=level)
    return file_of(signal, 44100, "mp3", "libmp3lame", stereo=True)


def samples(audio: bytes, format_: AudioFormat) -> Signal:
    """What is heard, full scale 1.0."""
    return (waves.to_pcm(audio, format_) / 32768).astype(np.float32)


def likeness(heard: Signal, source: Signal) -> float:
    """The best correlation of two signals, 0 to 1, with one moved against the other."""
    size = min(len(heard), len(source))
    one = heard[:size] - heard[:size].mean()
    other = source[:size] - source[:size].mean()
    length = 1 << (2 * size - 1).bit_length()
    spectrum = np.fft.rfft(one, length) * np.conj(np.fft.rfft(other, length))
    best = np.fft.irfft(spectrum, length)
    return float(best.max() / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-12))


def peak_hz(signal: Signal, rate_hz: int) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    return float(np.argmax(spectrum) * rate_hz / len(signal))
