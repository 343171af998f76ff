"""Telephone audio: G.711 to and from 16-bit samples, resampling, loudness.

Twilio: a media stream is mono mu-law at 8000 Hz, one byte a sample, in frames of 20 ms. Decoding
and encoding are numpy look-ups in tables built at import, exact for each of the 65,536 samples.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FRAME_BYTES",
    "FRAME_MS",
    "SAMPLE_RATE",
    "SILENCE",
    "SILENCE_DBFS",
    "decode",
    "decode_alaw",
    "encode",
    "encode_alaw",
    "resample",
    "rms_dbfs",
]

Pcm = NDArray[np.int16]

SAMPLE_RATE = 8000
FRAME_MS = 20
FRAME_BYTES = SAMPLE_RATE * FRAME_MS // 1000  # 160

SILENCE = 0xFF
"""The byte that decodes to 0. Beware: a byte of 0x00 is nearly full scale."""

SILENCE_DBFS = -96.0
"""What `rms_dbfs` says of no sound at all: below the smallest 16-bit step, and still a number."""

_CLIP = 8158  # the largest 14-bit magnitude mu-law can name
_BIAS = 33


def _decode_byte(byte: int) -> int:
    byte = ~byte & 0xFF
    magnitude = ((((byte & 15) << 3) + 0x84) << ((byte >> 4) & 7)) - 0x84
    return -magnitude if byte & 0x80 else magnitude


def _encode_sample(sample: int) -> int:
    sample >>= 2  # 16-bit input becomes 14-bit; this is where -1..-8 and +1..+3 part ways
    mask = 0xFF
    if sample < 0:
        sample, mask = -sample, 0x7F
    sample = min(sample, _CLIP) + _BIAS
    segment = sample.bit_length() - 6
    return ((segment << 4) | ((sample >> (segment + 1)) & 15)) ^ mask


_DECODE: Pcm = np.array([_decode_byte(byte) for byte in range(256)], dtype=np.int16)
# Indexed by the sample seen as unsigned: 0..32767 are the positive samples, then -32768..-1.
_ENCODE: NDArray[np.uint8] = np.array(
    [_encode_sample(sample) for sample in (*range(32768), *range(-32768, 0))], dtype=np.uint8
)


def _decode_alaw_byte(byte: int) -> int:
    byte ^= 0x55
    magnitude = ((byte & 15) << 4) + 8
    segment = (byte >> 4) & 7
    if segment:
        magnitude = (magnitude + 0x100) << (segment - 1)
    return magnitude if byte & 0x80 else -magnitude


def _encode_alaw_sample(sample: int) -> int:
    sample >>= 3
    mask = 0xD5
    if sample < 0:
        sample, mask = -sample - 1, 0x55
    segment = max(0, sample.bit_length() - 5)
    return ((segment << 4) | ((sample >> max(1, segment)) & 15)) ^ mask


_DECODE_ALAW: Pcm = np.array([_decode_alaw_byte(byte) for byte in range(256)], dtype=np.int16)
_ENCODE_ALAW: NDArray[np.uint8] = np.array(
    [_encode_alaw_sample(sample) for sample in (*range(32768), *range(-32768, 0))], dtype=np.uint8
)


def decode(ulaw: bytes) -> Pcm:
    """Return the samples of mu-law bytes."""
    return _DECODE[np.frombuffer(ulaw, dtype=np.uint8)]


def encode(pcm: Pcm) -> bytes:
    """Return the mu-law bytes of samples."""
    return _ENCODE[np.ascontiguousarray(pcm, dtype=np.int16).view(np.uint16)].tobytes()


def decode_alaw(alaw: bytes) -> Pcm:
    """Return the samples of A-law bytes, which other carriers and OpenAI know as well."""
    return _DECODE_ALAW[np.frombuffer(alaw, dtype=np.uint8)]


def encode_alaw(pcm: Pcm) -> bytes:
    """Return the A-law bytes of samples."""
    return _ENCODE_ALAW[np.ascontiguousarray(pcm, dtype=np.int16).view(np.uint16)].tobytes()


def resample(pcm: Pcm, from_hz: int, to_hz: int) -> Pcm:
    """Return the same sound at another rate; for whole utterances, not for a stream of pieces.

    Cuts or extends the spectrum of the whole signal, which is as good as a filter can be. Silence
    is appended first, because a Fourier transform would join the signal's end to its beginning.
    """
    if from_hz == to_hz or not len(pcm):
        return pcm.astype(np.int16)
    divisor = math.gcd(from_hz, to_hz)
    down, up = from_hz // divisor, to_hz // divisor
    # A whole number of `down` samples in gives a whole number of `up` samples out: no drift.
    blocks = -(-(len(pcm) + from_hz // 100) // down)
    padded = np.zeros(blocks * down, dtype=np.float64)
    padded[: len(pcm)] = pcm
    spectrum = np.fft.rfft(padded)
    wanted = blocks * up
    resized = np.zeros(wanted // 2 + 1, dtype=np.complex128)
    kept = min(len(spectrum), len(resized))
    resized[:kept] = spectrum[:kept]
    samples = np.fft.irfft(resized, wanted) * (wanted / len(padded))
    length = round(len(pcm) * to_hz / from_hz)
    return np.clip(np.rint(samples[:length]), -32768, 32767).astype(np.int16)


def rms_dbfs(pcm: Pcm) -> float:
    """Return the loudness in decibels below full scale (0 is a full-scale square wave)."""
    if not len(pcm):
        return SILENCE_DBFS
    mean_square = float(np.mean(np.square(pcm, dtype=np.float64)))
    if mean_square == 0:
        return SILENCE_DBFS
    return max(SILENCE_DBFS, 10 * math.log10(mean_square / 32768**2))
