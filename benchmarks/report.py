"""What comes out: figures of each run, the table, the targets, and what disturbed them.

Pure: no I/O.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.measures import middle

OURS: Final = "ours"
BARE: Final = "bare"

# --- targets -------------------------------------------------------------------------------------

CPU_MAX_MS: Final = 12.0
CPU_MAX_RATIO: Final = 4.0
MEMORY_MAX_MB: Final = 1.0
#: Calls at which CPU and memory are judged.
JUDGED_CALLS: Final = 100
#: Calls, and the added round trip (99th percentile) allowed at them.
ADDED_MAX_MS: Final = {10: 8.0, 100: 25.0}

# --- what counts as disturbed --------------------------------------------------------------------

#: The machine, used by others or taken away by the hypervisor during the measurement.
ELSEWHERE_MAX: Final = 0.05
#: 99th percentile of the load generator's own lateness; its timers have 1 ms.
LATENESS_MAX_MS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one system.  Times in milliseconds."""

    system: str
    calls: int
    round: int
    seconds: float
    cpu_ms: dict[str, float]
    """Per call-second, by process."""
    memory_mb: dict[str, float]
    """Per call, by process."""
    p50: float
    p99: float
    p999: float | None
    worst: float
    sent: int
    lost: int
    late: int
    disordered: int
    dropped_calls: int
    lateness_p99: float
    lateness_worst: float
    elsewhere: float
    """Share of the machine used by others."""
    load_generator_ms: float
    """CPU of phones and model stand-in per call-second."""

    @property
    def cpu_total_ms(self) -> float:
        """All processes of the system."""
        return sum(self.cpu_ms.values())

    @property
    def memory_total_mb(self) -> float:
        """All processes of the system."""
        return sum(self.memory_mb.values())

    def disturbed(self) -> list[str]:
        """Why these figures should not be trusted; empty when they can be."""
        why = []
        if self.elsewhere > ELSEWHERE_MAX:
            why.append(f"{self.elsewhere:.0%} of the machine was busy elsewhere")
        if self.lateness_p99 > LATENESS_MAX_MS:
            why.append(f"the phones themselves were late (p99 {self.lateness_p99:.1f} ms)")
        return why


def describe(run: Run) -> dict[str, Any]:
    """For JSON."""
    return {**dataclasses.asdict(run), "disturbed": run.disturbed()}


@dataclass(frozen=True, slots=True)
class Row:
    """One system at one number of calls: medians over the undisturbed rounds, if there are any."""

    calls: int
    system: str
    cpu_ms: float
    parts: dict[str, float]
    p50: float
    p99: float
    p999: float | None
    memory_mb: float
    lost: int
    late: int
    disturbed: int
    rounds: int


def row(runs: Sequence[Run]) -> Row:
    """Runs of one system at one number of calls, at least one."""
    first = runs[0]
    names = first.cpu_ms
    every, runs = runs, [run for run in runs if not run.disturbed()] or runs
    return Row(
        calls=first.calls,
        system=first.system,
        cpu_ms=_known(middle([run.cpu_total_ms for run in runs])),
        parts={name: _known(middle([run.cpu_ms[name] for run in runs])) for name in names},
        p50=_known(middle([run.p50 for run in runs])),
        p99=_known(middle([run.p99 for run in runs])),
        p999=middle([run.p999 for run in runs]),
        memory_mb=_known(middle([run.memory_total_mb for run in runs])),
        lost=sum(run.lost for run in every),
        late=sum(run.late for run in every),
        disturbed=sum(1 for run in every if run.disturbed()),
        rounds=len(every),
    )


def _known(value: float | None) -> float:
    assert value is not None
    return value


def rows(runs: Sequence[Run]) -> list[Row]:
    """One for each number of calls and system, in the order of the calls, the bare relay first."""
    keys = sorted({(run.calls, run.system) for run in runs})
    return [row([run for run in runs if (run.calls, run.system) == key]) for key in keys]


# --- targets -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target."""

    target: str
    value: float | None
    """None: not measured in this run."""
    limit: float
    unit: str
    inclusive: bool = False
    """Whether the limit itself is still good."""

    @property
    def reached(self) -> bool | None:
        """None: not measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.inclusive else self.value < self.limit


def verdicts(table: Sequence[Row]) -> list[Verdict]:
    """Every target, measured or not."""
    found = {(one.calls, one.system): one for one in table}
    ours, bare = found.get((JUDGED_CALLS, OURS)), found.get((JUDGED_CALLS, BARE))
    at = f"at {JUDGED_CALLS} calls"
    out = [
        Verdict(f"CPU per call-second {at}", ours.cpu_ms if ours else None, CPU_MAX_MS, "ms", True),
        Verdict(
            f"CPU against the bare relay {at}",
            ours.cpu_ms / bare.cpu_ms if ours and bare else None,
            CPU_MAX_RATIO,
            "x",
            True,
        ),
    ]
    for calls, limit in sorted(ADDED_MAX_MS.items()):
        one, other = found.get((calls, OURS)), found.get((calls, BARE))
        added = one.p99 - other.p99 if one and other else None
        out.append(Verdict(f"added round trip p99 at {calls} calls", added, limit, "ms"))
    memory = ours.memory_mb if ours else None
    out.append(Verdict(f"memory per call {at}", memory, MEMORY_MAX_MB, "MB"))
    return out


# --- text ----------------------------------------------------------------------------------------

_HEAD: Final = (
    "calls",
    "system",
    "CPU ms",
    "of it",
    "x bare",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "added p50/p99/p99.9",
    "MB/call",
    "lost",
    "late",
)


def table(lines: Sequence[Row]) -> str:
    """The figures as text."""
    bare = {one.calls: one for one in lines if one.system == BARE}
    cells = [_HEAD, *(_cells(one, bare.get(one.calls)) for one in lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (1, 3) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _cells(one: Row, bare: Row | None) -> tuple[str, ...]:
    ours = one.system == OURS
    ratio = added = ""
    if ours and bare is not None:
        ratio = f"{one.cpu_ms / bare.cpu_ms:.1f}"
        tail = one.p999 - bare.p999 if one.p999 is not None and bare.p999 is not None else None
        added = f"{one.p50 - bare.p50:.1f} / {one.p99 - bare.p99:.1f} / {_number(tail)}"
    parts = ", ".join(f"{name} {value:.1f}" for name, value in one.parts.items()) if ours else ""
    mark = f" ({one.disturbed} of {one.rounds} disturbed)" if one.disturbed else ""
    return (
        str(one.calls),
        one.system + mark,
        f"{one.cpu_ms:.1f}",
        parts,
        ratio,
        _number(one.p50),
        _number(one.p99),
        _number(one.p999),
        added,
        f"{one.memory_mb:.2f}",
        str(one.lost),
        str(one.late),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def targets(judged: Sequence[Verdict]) -> str:
    """Each target in a line."""
    words = {True: "reached", False: "NOT REACHED", None: "not measured"}
    lines = []
    for one in judged:
        value = "" if one.value is None else f"{one.value:.2f} {one.unit}, "
        sign = "<=" if one.inclusive else "<"
        limit = f"target {sign} {one.limit:g} {one.unit}"
        lines.append(f"{words[one.reached]:<12}  {one.target}: {value}{limit}")
    return "\n".join(lines)


def disturbances(runs: Sequence[Run]) -> str:
    """What to know before trusting the figures; empty for a quiet run."""
    return "\n".join(
        f"DISTURBED  {run.system}, {run.calls} calls, round {run.round}: {why}"
        for run in runs
        for why in run.disturbed()
    )
