"""Rows, targets and what counts as disturbed."""

import dataclasses

import pytest

from benchmarks import report
from benchmarks.report import BARE, OURS, Run

pytestmark = pytest.mark.unit

QUIET = Run(
    system=OURS,
    calls=100,
    round=1,
    seconds=10,
    cpu_ms={"gateway": 3.0, "nats": 1.0, "session": 4.0},
    memory_mb={"gateway": 0.1, "nats": 0.0, "session": 0.2},
    p50=4.5,
    p99=9.0,
    p999=15.0,
    worst=30.0,
    sent=50_000,
    lost=0,
    late=0,
    disordered=0,
    dropped_calls=0,
    lateness_p99=1.5,
    lateness_worst=3.0,
    elsewhere=0.01,
    load_generator_ms=3.0,
)
BARE_RUN = dataclasses.replace(
    QUIET, system=BARE, cpu_ms={"bare": 2.0}, memory_mb={"bare": 0.05}, p50=0.5, p99=2.0, p999=4.0
)


def reached(*runs: Run) -> dict[str, bool | None]:
    return {one.target: one.reached for one in report.verdicts(report.rows(runs))}


def test_a_run_adds_up_its_processes() -> None:
    assert QUIET.cpu_total_ms == pytest.approx(8.0)
    assert QUIET.memory_total_mb == pytest.approx(0.3)


def test_a_quiet_run_is_not_disturbed() -> None:
    assert QUIET.disturbed() == []
    assert report.disturbances([QUIET]) == ""


@pytest.mark.parametrize(
    ("change", "word"), [({"elsewhere": 0.2}, "elsewhere"), ({"lateness_p99": 9.0}, "late")]
)
def test_a_disturbed_run_says_why(change: dict[str, float], word: str) -> None:
    run = dataclasses.replace(QUIET, **change)  # type: ignore[arg-type]
    assert word in report.disturbances([run])


def test_a_row_is_the_median_of_its_rounds() -> None:
    runs = [dataclasses.replace(QUIET, p99=value, lost=1) for value in (7.0, 30.0, 8.0)]
    (row,) = report.rows(runs)
    assert (row.p99, row.lost, row.rounds, row.disturbed) == (8.0, 3, 3, 0)


def test_disturbed_rounds_do_not_count_while_there_are_others() -> None:
    noisy = dataclasses.replace(QUIET, p99=500.0, elsewhere=0.5, lost=2)
    (row,) = report.rows([noisy, QUIET])
    assert (row.p99, row.lost, row.disturbed) == (QUIET.p99, 2, 1)
    (row,) = report.rows([noisy])
    assert row.p99 == 500.0


def test_rows_are_in_order_of_calls_with_the_baseline_first() -> None:
    runs = [QUIET, dataclasses.replace(QUIET, calls=10), BARE_RUN]
    assert [(row.calls, row.system) for row in report.rows(runs)] == [
        (10, OURS),
        (100, BARE),
        (100, OURS),
    ]


def test_targets_of_good_runs_are_reached() -> None:
    ten = [dataclasses.replace(run, calls=10) for run in (QUIET, BARE_RUN)]
    assert set(reached(QUIET, BARE_RUN, *ten).values()) == {True}


def test_what_was_not_run_is_not_judged() -> None:
    assert set(reached(dataclasses.replace(QUIET, calls=50)).values()) == {None}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"cpu_ms": {"session": 12.5}, "p99": 9.0}, "CPU per call-second at 100 calls"),
        ({"cpu_ms": {"session": 8.1}}, "CPU against the bare relay at 100 calls"),
        ({"p99": 27.0}, "added round trip p99 at 100 calls"),
        ({"memory_mb": {"session": 1.0}}, "memory per call at 100 calls"),
    ],
)
def test_each_target_can_be_missed(change: dict[str, object], missed: str) -> None:
    bad = dataclasses.replace(QUIET, **change)  # type: ignore[arg-type]
    assert reached(bad, BARE_RUN)[missed] is False


def test_limits_of_cpu_are_inclusive() -> None:
    exact = dataclasses.replace(QUIET, cpu_ms={"session": 8.0})
    found = reached(exact, BARE_RUN)
    assert found["CPU against the bare relay at 100 calls"] is True


def test_the_table_tells_both_systems_and_the_difference() -> None:
    text = report.table(report.rows([QUIET, BARE_RUN]))
    ours = next(line for line in text.splitlines() if OURS in line)
    assert "gateway 3.0, nats 1.0, session 4.0" in ours
    assert "4.0 / 7.0 / 11.0" in ours
    assert len(text.splitlines()) == 3


def test_the_targets_are_told_in_words() -> None:
    text = report.targets(report.verdicts(report.rows([QUIET, BARE_RUN])))
    assert "reached" in text
    assert "not measured" in text  # 10 calls
    assert "NOT REACHED" not in text


def test_a_run_is_described_with_its_disturbance() -> None:
    assert report.describe(QUIET)["disturbed"] == []
    assert report.describe(QUIET)["cpu_ms"]["nats"] == 1.0
