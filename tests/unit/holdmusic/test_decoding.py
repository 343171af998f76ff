"""Decoding of real files, and refusal of what is none."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from services.holdmusic import g711, loudness
from services.holdmusic.decoding import RAW, SUPPORTED, NotMusicError, decode
from shared.audio import FORMATS, PCM24K, PCMU, FormatName
from tests.unit.holdmusic.music import Signal, file_of, likeness, mp3, samples, silence, tune

pytestmark = pytest.mark.unit

SECONDS = 3.0
KINDS = {
    "track.mp3": ("mp3", "libmp3lame", 44100, True),
    "track.wav": ("wav", "pcm_s16le", 44100, True),
    "track.ogg": ("ogg", "libopus", 48000, True),
    "track.flac": ("flac", "flac", 48000, False),
    "phone.wav": ("wav", "pcm_s16le", 8000, False),
    "law.wav": ("wav", "pcm_mulaw", 8000, False),
    "track.m4a": ("mp4", "aac", 44100, True),
}


def converted(data: bytes, key: str, name: FormatName = "pcmu", limit_s: float = 60) -> Signal:
    format_ = FORMATS[name]
    audio = decode(data, key, format_, limit_s=limit_s)
    assert len(audio) % format_.sample_bytes == 0
    return samples(audio, format_)


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("key", sorted(KINDS))
def test_a_real_file_sounds_like_its_source(key: str, name: FormatName) -> None:
    container, codec, rate, stereo = KINDS[key]
    data = file_of(tune(SECONDS, rate), rate, container, codec, stereo=stereo)
    heard = converted(data, key, name)
    rate_hz = FORMATS[name].rate_hz
    assert abs(len(heard) / rate_hz - SECONDS) < 0.15
    assert likeness(heard, tune(SECONDS, rate_hz)) > 0.9
    level = loudness.dbfs(loudness.loudness(heard, rate_hz))
    assert abs(level - loudness.TARGET_DBFS) < 1.0


@pytest.mark.parametrize("level", [0.006, 0.03, 0.99])
def test_loud_and_quiet_tracks_come_out_alike(level: float) -> None:
    heard = converted(
        file_of(tune(SECONDS, 44100, level=level), 44100, "wav", "pcm_s16le"), "a.wav"
    )
    assert abs(loudness.dbfs(loudness.rms(heard)) - loudness.TARGET_DBFS) < 1.5
    assert np.abs(heard).max() < loudness.CEILING + 0.02


def test_peaks_are_bent_and_not_cut() -> None:
    """Quiet music with hits: the gain that the music needs would push the hits over the top."""
    signal = tune(SECONDS, 8000, level=0.02)
    signal[::4000] = 1.0
    heard = converted(file_of(signal, 8000, "wav", "pcm_s16le"), "hits.wav", "pcm24k")
    assert np.abs(heard).max() < loudness.CEILING + 0.01


def test_silence_at_both_ends_is_cut_so_that_the_loop_has_no_hole() -> None:
    rate = 44100
    signal = np.concatenate([silence(1.5, rate), tune(SECONDS, rate), silence(2.0, rate)])
    heard = converted(file_of(signal, rate, "wav", "pcm_s16le"), "gap.wav")
    assert abs(len(heard) / 8000 - SECONDS) < 0.15
    looped = np.concatenate([heard, heard])
    blocks = np.abs(looped[: len(looped) // 800 * 800]).reshape(-1, 800).max(axis=1)
    assert blocks.min() > 0.01, "no tenth of a second is silent, across the seam either"


def test_a_pause_inside_is_left_alone() -> None:
    rate = 8000
    signal = np.concatenate([tune(2, rate), silence(1.5, rate), tune(2, rate, seed=2)])
    heard = converted(file_of(signal, rate, "wav", "pcm_s16le"), "pause.wav")
    assert abs(len(heard) / 8000 - 5.5) < 0.15
    assert abs(loudness.dbfs(loudness.rms(heard[4000:12000])) - loudness.TARGET_DBFS) < 1.5


def test_the_seam_does_not_click() -> None:
    rate = 8000
    at = np.arange(rate * 2) / rate
    signal = (0.3 * np.sin(2 * np.pi * 300.3 * at + 1)).astype(np.float32)  # no whole periods
    heard = converted(file_of(signal, rate, "wav", "pcm_s16le"), "tone.wav", "pcm24k")
    steps = np.abs(np.diff(np.concatenate([heard, heard])))
    assert steps[len(heard) - 1] < 1.5 * np.quantile(steps, 0.99)


def test_raw_is_mu_law_and_passes_unchanged() -> None:
    law = g711.encode((tune(2, 8000) * 32767).astype(np.int16))
    assert decode(law, "line.raw", PCMU, limit_s=60) == law
    assert decode(law, "LINE.RAW", PCMU, limit_s=60) == law
    browser = samples(decode(law, "line.raw", PCM24K, limit_s=60), PCM24K)
    assert abs(len(browser) / 24000 - 2) < 0.01
    assert likeness(browser[::3], samples(law, PCMU)) > 0.98


@pytest.mark.parametrize("key", sorted(KINDS))
def test_a_containers_bytes_are_never_sent_as_mu_law(key: str) -> None:
    """The earlier system played MP3 and WAV bytes to callers, as loud noise."""
    container, codec, rate, stereo = KINDS[key]
    data = file_of(tune(SECONDS, rate), rate, container, codec, stereo=stereo)
    for name in ("mislabelled.raw", "mislabelled.wav", "mislabelled.mp3", "nothing"):
        audio = decode(data, name, PCMU, limit_s=60)
        assert data[:200] not in audio
        assert likeness(samples(audio, PCMU), tune(SECONDS, 8000)) > 0.9


def test_an_mp3_without_tags_is_told_from_samples() -> None:
    data = mp3()
    start = data.index(b"\xff\xfb")
    heard = samples(decode(data[start:], "bare.raw", PCMU, limit_s=60), PCMU)
    assert likeness(heard, tune(SECONDS, 8000)) > 0.9
    quiet = b"\xff\xfb" * 8000  # legal mu-law, and like the beginning of an MP3 frame
    assert decode(quiet, "quiet.raw", PCMU, limit_s=60) == quiet


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no audio"),
        (b"garbage " * 4000, "no audio"),
        (b"\0" * 50_000, "no audio"),
        (mp3()[:300], "no audio|shorter"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n" * 50, "no audio"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n" * 50, "no audio"),
        (file_of(silence(3, 8000), 8000, "wav", "pcm_s16le"), "silent"),
        (file_of(tune(0.2, 8000), 8000, "wav", "pcm_s16le"), "shorter"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "no audio"),
    ],
)
def test_what_is_no_music_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(NotMusicError, match=why):
        decode(data, "track.mp3", PCMU, limit_s=60)


def test_a_playlist_cannot_make_us_open_other_files() -> None:
    """FFmpeg follows playlists; a file of the bucket must not reach files of this machine."""
    for name in ("list.m3u8", "list.mp3", "list.raw.wav"):
        with pytest.raises(NotMusicError):
            decode(b"#EXTM3U\n#EXT-X-VERSION:3\n/etc/hostname\n", name, PCMU, limit_s=60)


def test_half_a_file_plays_as_far_as_it_goes() -> None:
    data = mp3(6)
    heard = converted(data[: len(data) // 2], "half.mp3")
    assert 2.5 < len(heard) / 8000 < 3.5


def test_too_long_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(NotMusicError, match="longer than 2 s"):
        decode(mp3(), "long.mp3", PCMU, limit_s=2)
    with pytest.raises(NotMusicError, match="longer than 2 s"):
        decode(b"\xf0" * 17_000, "long.raw", PCMU, limit_s=2)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.sampled_from(SUPPORTED))
def test_any_bytes_are_music_or_refused(data: bytes, ending: str) -> None:
    try:
        audio = decode(data, f"x{ending}", PCMU, limit_s=60)
    except NotMusicError:
        return
    assert ending == RAW or audio


DAMAGED = mp3()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DAMAGED) - 1), st.integers(0, 255)), max_size=40))
def test_a_damaged_file_is_music_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(DAMAGED)
    for at, value in changes:
        data[at] = value
    try:
        audio = decode(bytes(data), "damaged.mp3", PCMU, limit_s=60)
    except NotMusicError:
        return
    assert np.abs(samples(audio, PCMU)).max() < loudness.CEILING + 0.02
