"""The player: an absolute schedule, in virtual time."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from services.holdmusic import waves
from services.holdmusic.player import FADE_MS, LEAD_MS, TICK_MS, Player, fade_in
from shared.audio import FORMATS, FRAME_MS, PCM24K, PCMU, AudioFormat, FormatName

pytestmark = pytest.mark.unit

names = st.sampled_from(sorted(FORMATS))


def noise(format_: AudioFormat, samples: int, seed: int = 1) -> bytes:
    """No two places in it are alike."""
    rng = np.random.default_rng(seed)
    pcm = rng.integers(-20000, 20000, samples).astype(np.int16)
    return waves.to_audio(pcm, format_)


def play(player: Player, ticks: list[float]) -> list[bytes]:
    return [player.due(now) for now in ticks]


@given(
    names,
    st.floats(0, 1e6),
    st.lists(st.floats(0.0, 0.19), min_size=1, max_size=60),
    st.integers(1, 9000),
)
def test_never_ahead_of_the_lead_never_behind_real_time(
    name: FormatName, start: float, gaps: list[float], loop: int
) -> None:
    format_ = FORMATS[name]
    player = Player(noise(format_, loop), format_, start, limit_s=3600)
    sent = len(player.due(start))
    now = start
    for gap in gaps:
        before_ms = (now - start) * 1000
        assert sent >= (before_ms - TICK_MS) * format_.bytes_per_ms
        now += gap
        due = player.due(now)
        assert len(due) % format_.frame_bytes == 0, "every frame is whole"
        sent += len(due)
        elapsed_ms = (now - start) * 1000
        assert sent <= (elapsed_ms + LEAD_MS + 0.01) * format_.bytes_per_ms
        assert sent > (elapsed_ms + LEAD_MS - FRAME_MS - 0.01) * format_.bytes_per_ms
    assert player.skipped_ms == 0


@settings(max_examples=20)
@given(names, st.lists(st.floats(-0.04, 0.04), min_size=7, max_size=7), st.floats(0, 1e6))
def test_an_hour_of_jittered_ticks_does_not_drift(
    name: FormatName, jitter: list[float], start: float
) -> None:
    format_ = FORMATS[name]
    player = Player(format_.silence(500), format_, start, limit_s=4000)
    sent = 0
    wobble = itertools.cycle(jitter)
    for tick in range(0, 36_000, 1):
        sent += len(player.due(max(start, start + tick * TICK_MS / 1000 + next(wobble))))
    sent += len(player.due(start + 3600))
    assert sent == (3_600_000 + LEAD_MS) * format_.bytes_per_ms


@given(names, st.integers(1, 50_000), st.integers(1, 12))
def test_it_loops_without_a_seam(name: FormatName, loop: int, seconds: int) -> None:
    format_ = FORMATS[name]
    track = noise(format_, loop)
    player = Player(track, format_, 0.0, limit_s=3600)
    heard = b"".join(play(player, [tick * TICK_MS / 1000 for tick in range(seconds * 10 + 1)]))
    assert len(heard) == (seconds * 1000 + LEAD_MS) * format_.bytes_per_ms
    faded = FADE_MS * format_.bytes_per_ms
    forever = track * (len(heard) // len(track) + 1)
    assert heard[faded:] == forever[faded : len(heard)]


@given(names, st.integers(1, 30_000))
def test_the_fade_rises_and_never_falls(name: FormatName, loop: int) -> None:
    """On a constant signal the fade is what is heard."""
    format_ = FORMATS[name]
    level = np.full(loop, 16000, dtype=np.int16)
    heard = waves.to_pcm(fade_in(waves.to_audio(level, format_), format_), format_).astype(int)
    assert len(heard) == FADE_MS * format_.rate_hz // 1000
    assert (np.diff(heard) >= 0).all()
    assert heard[0] < 100
    assert abs(heard[-1] - 16000) < 700  # a step of mu-law up there is 1024
    middle = heard[len(heard) // 2]
    assert abs(middle - 8000) < 300, "linear"


def test_the_fade_is_followed_by_the_track_where_it_is_then() -> None:
    track = noise(PCMU, 16_000)
    player = Player(track, PCMU, 0.0, limit_s=60)
    heard = b"".join(play(player, [0.0, 0.5, 1.0, 1.5]))
    assert heard[FADE_MS * 8 :] == track[FADE_MS * 8 : 1700 * 8]
    assert heard[: FADE_MS * 8] != track[: FADE_MS * 8]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_hold_begins_at_the_tracks_beginning(name: FormatName) -> None:
    format_ = FORMATS[name]
    track = noise(format_, 100_000)
    first = Player(track, format_, 0.0, limit_s=60)
    play(first, [0.0, 1.0, 7.3])
    late = Player(track, format_, 7.3, limit_s=60)
    assert late.due(7.3) == Player(track, format_, 0.0, limit_s=60).due(0.0)


@given(st.integers(1, 20), st.lists(st.floats(0.001, 0.3), min_size=1, max_size=200))
def test_the_limit_is_exact_and_final(limit_s: int, gaps: list[float]) -> None:
    player = Player(noise(PCMU, 8000), PCMU, 0.0, limit_s=limit_s)
    sent = 0
    for now in itertools.accumulate(gaps):
        sent += len(player.due(now))
    for now in range(limit_s + 40):
        player.due(float(now))
    assert player.over
    assert player.position_ms == limit_s * 1000
    assert player.due(1e9) == b""
    assert sent <= limit_s * 8000


def test_a_stall_is_passed_over_and_not_sent_late() -> None:
    """The process was suspended: a flood of old music would only fill the phone's buffer."""
    track = noise(PCMU, 80_000)
    player = Player(track, PCMU, 0.0, limit_s=600)
    play(player, [0.0, 0.1, 0.2])
    late = player.due(5.0)
    assert len(late) == LEAD_MS * 8
    assert late == track[5000 * 8 : 5200 * 8]
    assert player.skipped_ms == 4600
    assert player.position_ms == 5200


def test_a_clock_that_stands_still_or_goes_back_sends_nothing_twice() -> None:
    player = Player(noise(PCMU, 8000), PCMU, 100.0, limit_s=600)
    assert len(player.due(100.0)) == LEAD_MS * 8
    assert player.due(100.0) == b""
    assert player.due(99.0) == b""


@pytest.mark.parametrize("audio", [b"", b"\0", b"\0\0\0"])
def test_half_a_sample_is_refused(audio: bytes) -> None:
    with pytest.raises(ValueError, match="whole samples"):
        Player(audio, PCM24K, 0.0, limit_s=1)


def test_a_short_stall_is_made_up_for() -> None:
    track = noise(PCMU, 80_000)
    player = Player(track, PCMU, 0.0, limit_s=600)
    heard = b"".join(play(player, [0.0, 0.9, 1.0]))
    assert len(heard) == 1200 * 8
    assert player.skipped_ms == 0
