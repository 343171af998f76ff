"""Makes any music fit for a phone line: no silence at its ends, even loudness, no clipping, a loop.

Samples are float32, full scale 1.0.  Works in place and in blocks: half an hour for a browser takes
170 MB as it is.

Pure: no I/O.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from services.holdmusic.g711 import Pcm

Samples = npt.NDArray[np.float32]

#: Speech on phone lines sits at about -20 dBFS while somebody speaks; music a little below it.
TARGET_DBFS: Final = -23.0
#: A track may be raised by this at most: what is quieter is noise, and would be loud noise.
GAIN_MAX_DB: Final = 30.0
#: Peaks are bent from here on, and never exceed the ceiling.
KNEE: Final = 0.5  # -6 dBFS
CEILING: Final = 0.89  # -1 dBFS
#: Loudness is measured in blocks of 400 ms; those 20 dB below the loudest do not count (pauses).
BLOCK_MS: Final = 400
GATE_DB: Final = 20.0
#: Silence at the ends: 40 dB below the music.  Looked at in steps of 10 ms.
SILENCE_DB: Final = 40.0
STEP_MS: Final = 10
#: The end is blended into the beginning over this, so that the loop does not click.
SEAM_MS: Final = 20
#: Below this a file has no music at all: -60 dBFS, the noise floor of a phone line.
SILENT_DBFS: Final = -60.0
#: Samples handled at a time, to keep the memory of a long track in bounds.
_CHUNK: Final = 1 << 20


class SilentError(ValueError):
    """There is nothing to hear."""


def dbfs(rms: float) -> float:
    """Decibels below full scale; -120 for digital silence."""
    return 20.0 * float(np.log10(max(rms, 1e-6)))


def rms(samples: Samples) -> float:
    """Root mean square of all of it."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def _blocks(samples: Samples, size: int) -> npt.NDArray[np.float64]:
    """RMS of each whole block of `size` samples; of all, if there is not one."""
    count = len(samples) // size
    if count == 0:
        return np.array([rms(samples)])
    found = np.empty(count)
    per_chunk = max(1, _CHUNK // size)
    for first in range(0, count, per_chunk):
        last = min(count, first + per_chunk)
        part = samples[first * size : last * size].reshape(last - first, size)
        found[first:last] = np.sqrt(np.mean(np.square(part, dtype=np.float64), axis=1))
    return found


def loudness(samples: Samples, rate_hz: int) -> float:
    """RMS of what plays: pauses do not make a track count as quiet."""
    levels = _blocks(samples, rate_hz * BLOCK_MS // 1000)
    loud = levels[levels >= levels.max() * 10 ** (-GATE_DB / 20)]
    return float(np.sqrt(np.mean(np.square(loud))))


def trim(samples: Samples, rate_hz: int) -> Samples:
    """Without silence at both ends.  Raises `SilentError` when nothing would be left."""
    level = loudness(samples, rate_hz)
    if dbfs(level) < SILENT_DBFS:
        raise SilentError("it is silent")
    step = rate_hz * STEP_MS // 1000
    heard = np.flatnonzero(_blocks(samples, step) > level * 10 ** (-SILENCE_DB / 20))
    if len(heard) == 0:  # shorter than a step
        return samples
    first, last = int(heard[0]), int(heard[-1])
    # The last step may be followed by less than a whole one: cut it with the silence.
    return samples[first * step : (last + 1) * step]


def even(samples: Samples, rate_hz: int) -> Samples:
    """At `TARGET_DBFS`, peaks below `CEILING`; in place."""
    level = loudness(samples, rate_hz)
    gain_db = min(TARGET_DBFS - dbfs(level), GAIN_MAX_DB)
    samples *= np.float32(10 ** (gain_db / 20))
    room = CEILING - KNEE
    for start in range(0, len(samples), _CHUNK):
        part = samples[start : start + _CHUNK]
        size = np.abs(part)
        over = size > KNEE
        if over.any():
            bent = KNEE + room * np.tanh((size[over] - KNEE) / room)
            part[over] = np.copysign(bent, part[over])
    return samples


def seam(samples: Samples, rate_hz: int) -> Samples:
    """Shorter by the seam, which is blended into the beginning; in place.

    The sample that follows the last one is then the one that followed it in the recording.
    """
    size = min(rate_hz * SEAM_MS // 1000, len(samples) // 4)
    if size == 0:
        return samples
    rise = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    samples[:size] = samples[:size] * rise + samples[-size:] * (np.float32(1) - rise)
    return samples[:-size]


def to_pcm(samples: Samples) -> Pcm:
    """16-bit samples."""
    out = np.empty(len(samples), dtype=np.int16)
    for start in range(0, len(samples), _CHUNK):
        part = samples[start : start + _CHUNK]
        out[start : start + _CHUNK] = np.rint(np.clip(part, -1.0, 1.0) * 32767.0)
    return out


def for_the_phone(samples: Samples, rate_hz: int) -> Pcm:
    """Trimmed, even and looping; `samples` is used up.  Raises `SilentError`."""
    if len(samples):
        samples -= np.float32(np.mean(samples, dtype=np.float64))  # an offset is no sound
    return to_pcm(seam(even(trim(samples, rate_hz), rate_hz), rate_hz))
