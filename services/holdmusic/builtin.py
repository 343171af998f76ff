"""The track that is always there: eight bars of soft electric piano over a pad, made by us.

Made by additive synthesis at the call's own rate, with everything between 80 and 3400 Hz, as a
phone line needs it.  Notes that ring beyond the end go on at the beginning, so the loop has no
seam.  The same on every machine, but for the last bit of a sample.

Pure: no I/O, no randomness.
"""

import functools
from typing import Final

import numpy as np

from services.holdmusic import waves
from services.holdmusic.loudness import Samples, even, to_pcm
from shared.audio import FORMATS, FormatName

NAME: Final = "built-in"

#: 72 beats a minute, eight bars of four: 26.7 s.
BEAT_S: Final = 60 / 72
BARS: Final = 8
#: MIDI numbers.  Dm9, G13, Cmaj9, Am7, twice; the second time the top voice goes another way.
CHORDS: Final[tuple[tuple[int, ...], ...]] = (
    (50, 57, 60, 64, 65),
    (55, 59, 64, 65, 69),
    (48, 55, 59, 62, 64),
    (57, 60, 64, 67, 71),
    (50, 57, 60, 65, 69),
    (55, 59, 62, 65, 76),
    (48, 55, 59, 64, 74),
    (57, 60, 64, 67, 72),
)
#: A bar's arpeggio: (beat, voice of the chord, how hard).
FIGURE: Final = (
    (0.0, 0, 0.9),
    (0.5, 1, 0.55),
    (1.0, 2, 0.6),
    (1.5, 3, 0.6),
    (2.0, 4, 0.75),
    (2.5, 3, 0.5),
    (3.0, 2, 0.55),
    (3.5, 1, 0.45),
)
#: Partials of a tine piano: (multiple, level, seconds until it has fallen to a third).
TINE: Final = (
    (1.0, 1.0, 1.1),
    (2.0, 0.35, 0.7),
    (3.0, 0.12, 0.4),
    (4.0, 0.08, 0.3),
    (7.0, 0.05, 0.1),
)
TOP_HZ: Final = 3400.0
_RING_S: Final = 4.0


def _hz(note: float) -> float:
    return float(440.0 * 2 ** ((note - 69) / 12))


def _tine(note: int, rate_hz: int) -> Samples:
    """One struck note, ringing out."""
    at = np.arange(int(_RING_S * rate_hz)) / rate_hz
    out = np.zeros(len(at))
    for multiple, level, fall_s in TINE:
        hz = _hz(note) * multiple
        if hz < TOP_HZ:
            out += level * np.sin(2 * np.pi * hz * at) * np.exp(-at / fall_s)
    attack = np.minimum(1.0, at / 0.006)  # 6 ms: soft, not a click
    release = np.minimum(1.0, (_RING_S - at) / 0.2)
    return (out * attack * release).astype(np.float32)


def _pad(chord: tuple[int, ...], rate_hz: int) -> Samples:
    """A chord that swells and fades over its bar and half of the next."""
    seconds = 6 * BEAT_S
    at = np.arange(int(seconds * rate_hz)) / rate_hz
    out = np.zeros(len(at))
    for note in chord[1:]:
        for detune in (-0.04, 0.04):  # two voices slightly apart: it floats
            hz = _hz(note + detune)
            out += np.sin(2 * np.pi * hz * at) + 0.2 * np.sin(4 * np.pi * hz * at)
    swell: Samples = (out * np.sin(np.pi * at / seconds) ** 2).astype(np.float32)
    return swell


def _mix(loop: Samples, sound: Samples, start_s: float, rate_hz: int, level: float) -> None:
    """Add; what is beyond the end goes to the beginning."""
    places = (round(start_s * rate_hz) + np.arange(len(sound))) % len(loop)
    loop[places] += np.float32(level) * sound  # shorter than the loop: no place comes twice


def compose(rate_hz: int) -> Samples:
    """The loop, full scale 1.0."""
    loop: Samples = np.zeros(round(BARS * 4 * BEAT_S * rate_hz), dtype=np.float32)
    struck: dict[int, Samples] = {}
    for bar, chord in enumerate(CHORDS):
        start_s = bar * 4 * BEAT_S
        _mix(loop, _pad(chord, rate_hz), start_s, rate_hz, 0.05)
        for beat, voice, force in FIGURE:
            note = chord[voice] + (12 if voice > 0 and chord[voice] < 62 else 0)
            if note not in struck:
                struck[note] = _tine(note, rate_hz)
            _mix(loop, struck[note], start_s + beat * BEAT_S, rate_hz, 0.5 * force)
    return even(loop, rate_hz)


@functools.lru_cache(maxsize=len(FORMATS))
def track(name: FormatName) -> bytes:
    """The loop in a call's format; made on the first use (a tenth of a second)."""
    format_ = FORMATS[name]
    return waves.to_audio(to_pcm(compose(format_.rate_hz)), format_)
