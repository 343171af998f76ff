"""The built-in track is pleasant by measure: chords, even, no clicks, and the same every time."""

import numpy as np
import pytest

from services.holdmusic import builtin, loudness
from shared.audio import FORMATS, FormatName
from tests.unit.holdmusic.music import likeness, peak_hz, samples

pytestmark = pytest.mark.unit

NAMES = sorted(FORMATS)


@pytest.mark.parametrize("name", NAMES)
def test_it_lasts_20_to_40_seconds_at_the_loudness_of_all_tracks(name: FormatName) -> None:
    format_ = FORMATS[name]
    heard = samples(builtin.track(name), format_)
    assert 20 <= len(heard) / format_.rate_hz <= 40
    level = loudness.dbfs(loudness.loudness(heard, format_.rate_hz))
    assert abs(level - loudness.TARGET_DBFS) < 0.5
    assert np.abs(heard).max() <= loudness.CEILING + 0.02


def test_it_is_made_once_and_the_same_every_time() -> None:
    assert builtin.track("pcmu") is builtin.track("pcmu")
    assert (builtin.compose(8000) == builtin.compose(8000)).all()


def test_both_formats_hold_the_same_music() -> None:
    phone = samples(builtin.track("pcmu"), FORMATS["pcmu"])
    browser = samples(builtin.track("pcm24k"), FORMATS["pcm24k"])[::3]
    assert likeness(phone, browser) > 0.9


def test_it_is_music_and_not_a_tone() -> None:
    """Every bar has its own chord of several partials; nothing dominates, least of all 440 Hz."""
    rate = 24000
    track = builtin.compose(rate)
    bar = round(4 * builtin.BEAT_S * rate)
    peaks = set()
    for number in range(builtin.BARS):
        part = track[number * bar : (number + 1) * bar]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        power = spectrum**2 / (spectrum**2).sum()
        loud = power > power.max() / 100
        strong = np.flatnonzero(loud[1:-1] & (power[1:-1] > power[:-2]) & (power[1:-1] > power[2:]))
        assert len(strong) >= 5, "several partials"
        assert power.max() < 0.3, "none of which is the music"
        peaks.add(round(peak_hz(part, rate)))
    assert len(peaks) >= 4
    assert sum(435 <= hz <= 445 for hz in peaks) <= 1, "an A is in some chords, and no more"


def test_it_fits_a_phone_line() -> None:
    track = builtin.compose(24000)
    spectrum = np.abs(np.fft.rfft(track)) ** 2
    hz = np.fft.rfftfreq(len(track), 1 / 24000)
    outside = spectrum[(hz < 80) | (hz > 3600)].sum() / spectrum.sum()
    assert outside < 0.01


def test_the_loop_has_no_seam_and_no_hole() -> None:
    track = builtin.compose(24000)
    steps = np.abs(np.diff(np.concatenate([track, track[:1]])))
    assert steps[-1] <= np.quantile(steps, 0.999)
    around = np.concatenate([track[-2400:], track[:2400]])
    assert loudness.rms(around) > loudness.rms(track) / 5


def test_envelopes_are_gentle() -> None:
    """No block of 10 ms is much louder than the one before it, as a click would be."""
    track = builtin.compose(24000)
    blocks = np.sqrt(np.mean(track[: len(track) // 240 * 240].reshape(-1, 240) ** 2, axis=1))
    assert np.diff(blocks).max() < 0.15
    assert blocks.min() > 0
