"""Percentiles and accounting."""

import math
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, strategies as st

from benchmarks import measures
from benchmarks.measures import Machine

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.001, 1), (0.5, 500), (0.99, 990), (0.999, 999), (1, 1000)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert measures.percentile(range(1, 1001), share) == expected


def test_percentile_of_one_sample_is_that_sample() -> None:
    assert measures.percentile([7.0], 0.5) == measures.percentile([7.0], 0.999) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_percentile_refuses_nonsense(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        measures.percentile(values, share)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentile_covers_its_share(values: list[float], share: float) -> None:
    values.sort()
    found = measures.percentile(values, share)
    assert found in values
    assert sum(1 for value in values if value <= found) >= math.floor(share * len(values))


def test_spread_sorts_and_keeps_the_worst() -> None:
    spread = measures.spread_of([3, 1, 2])
    assert spread == measures.Spread(samples=3, p50=2, p99=3, p999=None, worst=3)


def test_spread_of_nothing_is_nothing() -> None:
    assert measures.spread_of([]) is None


def test_a_thousandth_needs_a_thousand_samples() -> None:
    few = measures.spread_of(range(measures.P999_SAMPLES - 1))
    enough = measures.spread_of(range(1, measures.P999_SAMPLES + 1))
    assert few is not None
    assert few.p999 is None
    assert enough is not None
    assert enough.p999 == 999


def test_middle_ignores_what_is_not_known() -> None:
    assert measures.middle([5, None, 1, 9]) == 5
    assert measures.middle([None]) is None


def test_cpu_per_call_second() -> None:
    # 8 s of CPU in 10 s of 100 calls: 8 ms for each second of each call.
    assert measures.per_call_second(8.0, 100, 10.0) == pytest.approx(8.0)


def test_memory_per_call_may_be_negative() -> None:
    assert measures.per_call_mb(50_000_000, 80_000_000, 100) == pytest.approx(0.3)
    assert measures.per_call_mb(80_000_000, 50_000_000, 10) == pytest.approx(-3.0)


def test_elsewhere_is_what_others_used_and_what_was_stolen() -> None:
    before, after = Machine(busy_s=100, stolen_s=1), Machine(busy_s=112, stolen_s=2)
    # 20 s of CPU on offer; 12 used, 8 of them known; 1 stolen.
    assert measures.elsewhere(before, after, 8.0, 10.0, 2) == pytest.approx(0.25)


def test_elsewhere_is_never_negative() -> None:
    one = Machine(busy_s=100, stolen_s=0)
    assert measures.elsewhere(one, one, 0.01, 10.0, 2) == 0


def test_machine_is_read_from_the_kernel_s_table() -> None:
    text = "cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 2 3\n"
    assert measures.parse_machine(text, 100) == Machine(busy_s=1.63, stolen_s=0.08)


def test_machine_refuses_another_file() -> None:
    with pytest.raises(ValueError, match="/proc/stat"):
        measures.parse_machine("MemTotal: 1 kB\n", 100)


linux = pytest.mark.skipif(measures.why_unsupported() is not None, reason="needs Linux's /proc")


@linux
def test_own_cpu_time_agrees_with_python_s() -> None:
    before, known = measures.cpu_s(os.getpid()), time.process_time()
    assert before == pytest.approx(known, abs=0.5)
    while time.process_time() < known + 0.05:
        pass
    assert measures.cpu_s(os.getpid()) - before >= 0.05


@linux
def test_cpu_and_memory_of_another_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert 0 < measures.cpu_s(other.pid) < 10
        assert 1_000_000 < measures.rss_bytes(other.pid) < 1_000_000_000
        assert other.stdin is not None
        other.stdin.close()


@linux
def test_the_machine_s_clock_runs() -> None:
    assert measures.machine().busy_s > 0
