"""Gap filling: position in bytes stays time, and only real holes are filled."""

import itertools

import pytest
from hypothesis import given, strategies as st

from services.gateway.gaps import ABSURD_MS, FILL_MAX_MS, FOLLOW_MS_PER_MS, Gaps
from shared.audio import FRAME_MS, PCMU

pytestmark = pytest.mark.unit

FRAME = PCMU.frame_bytes


def feed(timestamps: list[int], gaps: Gaps | None = None) -> list[int]:
    """The silence before each frame, in milliseconds."""
    gaps = gaps or Gaps(PCMU)
    return [PCMU.ms(gaps.before(timestamp, FRAME)) for timestamp in timestamps]


def test_the_first_timestamp_is_the_base() -> None:
    assert feed([155]) == [0]
    assert feed([1_000_000]) == [0]


def test_the_recorded_call_has_one_gap_of_two_frames() -> None:
    recorded = [118, 138, 158, 178, 199, 218, 238, 258, 278, 298, 358, 378, 398]
    assert feed(recorded) == [0] * 10 + [40, 0, 0]


def test_a_gap_is_filled_to_whole_frames() -> None:
    assert feed([100, 120, 160])[-1] == 20
    assert feed([100, 120, 159])[-1] == 0  # 19 ms: could be jitter
    assert feed([100, 120, 195])[-1] == 40


def test_a_capture_with_19_97_ms_a_frame_gets_no_silence() -> None:
    """Twilio: chunk 1 at 155, chunk 73 at 1593."""
    timestamps = [155 + (1593 - 155) * number // 72 for number in range(73)]
    assert sum(feed(timestamps)) == 0


@given(
    st.floats(19.97, 20.03),
    st.integers(0, 100_000),
    st.lists(st.integers(-9, 9), min_size=10, max_size=10),
)
def test_drift_and_jitter_make_no_silence(step: float, base: int, jitter: list[int]) -> None:
    gaps = Gaps(PCMU)
    filled = 0
    for number, wobble in zip(range(2_000), itertools.cycle(jitter), strict=False):
        filled += gaps.before(max(0, base + round(number * step) + wobble), FRAME)
    assert filled == 0


@pytest.mark.parametrize("step", [19.97, 20.03])
def test_an_hour_of_drift_makes_no_silence_and_hides_no_gap(step: float) -> None:
    gaps = Gaps(PCMU)
    frames = 180_000
    assert sum(gaps.before(round(number * step), FRAME) for number in range(frames)) == 0
    assert gaps.before(round(frames * step) + 101, FRAME) == 100 * 8


@given(st.lists(st.integers(0, 60), min_size=1, max_size=200), st.integers(0, 10_000))
def test_bytes_are_time_within_one_frame(lost: list[int], base: int) -> None:
    """Any number of frames may be missing before each one."""
    gaps = Gaps(PCMU)
    timestamp = base
    total_ms = 0
    for missing in lost:
        timestamp += missing * FRAME_MS
        total_ms += PCMU.ms(gaps.before(timestamp, FRAME)) + FRAME_MS
        timestamp += FRAME_MS
    elapsed_ms = timestamp - base - lost[0] * FRAME_MS
    assert abs(total_ms - elapsed_ms) <= FRAME_MS


@given(st.lists(st.integers(0, 1_500), min_size=1, max_size=200))
def test_holes_of_any_length_keep_time_but_for_what_is_followed(holes: list[int]) -> None:
    gaps = Gaps(PCMU)
    timestamp = 100
    total_ms = 0
    for hole in holes:
        total_ms += PCMU.ms(gaps.before(timestamp, FRAME)) + FRAME_MS
        timestamp += FRAME_MS + hole
    elapsed_ms = timestamp - holes[-1] - 100
    followed_ms = FRAME_MS * len(holes) * FOLLOW_MS_PER_MS
    assert abs(total_ms - elapsed_ms) <= FRAME_MS + followed_ms


@given(
    st.lists(
        st.tuples(st.integers(0, 10**15), st.integers(0, 2_000)),
        max_size=50,
    )
)
def test_nothing_crashes_and_every_filling_is_whole_and_bounded(
    frames: list[tuple[int, int]],
) -> None:
    gaps = Gaps(PCMU)
    for timestamp, size in frames:
        fill = gaps.before(timestamp, size)
        assert 0 <= fill <= FILL_MAX_MS * PCMU.bytes_per_ms
        assert fill % FRAME == 0


def test_a_long_hole_is_filled_up_to_the_limit_and_then_goes_on() -> None:
    gaps = Gaps(PCMU)
    assert feed([100, 120, 20_000, 20_020, 20_040], gaps) == [0, 0, FILL_MAX_MS, 0, 0]
    assert gaps.cut == 1
    assert gaps.filled_ms == FILL_MAX_MS


def test_an_absurd_timestamp_is_counted_and_not_filled() -> None:
    gaps = Gaps(PCMU)
    assert feed([100, 120, ABSURD_MS * 10, 160, 180, 240], gaps) == [0, 0, 0, 0, 0, 40]
    assert (gaps.absurd, gaps.backwards) == (1, 1)


def test_timestamps_that_start_again_are_followed() -> None:
    gaps = Gaps(PCMU)
    assert feed([50_000, 50_020, 0, 20, 40, 100], gaps) == [0, 0, 0, 0, 0, 40]
    assert gaps.backwards == 1


def test_a_lone_late_timestamp_does_not_lengthen_the_call_twice() -> None:
    # The silence put in by mistake is credited to the frames that come "too early" after it.
    assert sum(feed([100, 120, 240, 160, 180, 200, 220, 240, 260])) == 100


def test_frames_of_any_length_are_time() -> None:
    gaps = Gaps(PCMU)
    assert gaps.before(0, 800) == 0
    assert gaps.before(100, 160) == 0
    assert gaps.before(160, 160) == 40 * 8
