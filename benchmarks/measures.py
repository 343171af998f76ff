"""What is counted, and how: percentiles, CPU time, memory, and what disturbed the run.

The accounting is pure; the few readers of the system at the end are for Linux.
"""

import math
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Below this many samples a 99.9th percentile is the worst sample and says nothing.
P999_SAMPLES: Final = 1000


# --- pure ----------------------------------------------------------------------------------------


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of `ordered` does not exceed, by nearest rank.

    `ordered` is sorted and not empty.
    """
    if not ordered or not 0 <= share <= 1:
        raise ValueError("a percentile needs samples and a share from 0 to 1")
    # Rounded first: 0.999 * 1000 is a hair above 999.
    rank = math.ceil(round(share * len(ordered), 6))
    return ordered[max(1, rank) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """How a time was distributed, in milliseconds."""

    samples: int
    p50: float
    p99: float
    p999: float | None
    """None: too few samples."""
    worst: float


def spread_of(values: Iterable[float]) -> Spread | None:
    """None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Spread(
        samples=len(ordered),
        p50=percentile(ordered, 0.5),
        p99=percentile(ordered, 0.99),
        p999=percentile(ordered, 0.999) if len(ordered) >= P999_SAMPLES else None,
        worst=ordered[-1],
    )


def middle(values: Sequence[float | None]) -> float | None:
    """The median of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def per_call_second(cpu_s: float, calls: int, seconds: float) -> float:
    """CPU milliseconds that a second of one call costs."""
    return cpu_s * 1000 / (calls * seconds)


def per_call_mb(before: int, after: int, calls: int) -> float:
    """Megabytes (of a million bytes) that one call adds; a process that shrank counts as it is."""
    return (after - before) / calls / 1e6


@dataclass(frozen=True, slots=True)
class Machine:
    """CPU seconds of the whole machine since it started."""

    busy_s: float
    stolen_s: float
    """Time that another virtual machine got instead of this one."""


def elsewhere(before: Machine, after: Machine, known_s: float, seconds: float, cores: int) -> float:
    """The share of the machine (0 to 1) used by others or stolen between two readings.

    `known_s` is the CPU time that the benchmark's own processes used in between.
    """
    others = (after.busy_s - before.busy_s) - known_s
    stolen = after.stolen_s - before.stolen_s
    return max(0.0, others + stolen) / (cores * seconds)


def parse_machine(stat: str, ticks: int) -> Machine:
    """From the first line of /proc/stat, in `ticks` a second."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    line = stat.split("\n", 1)[0].split()
    if line[:1] != ["cpu"]:
        raise ValueError("not /proc/stat")
    fields: Mapping[str, int] = dict(zip(names, map(int, line[1:]), strict=False))
    busy = sum(fields[name] for name in ("user", "nice", "system", "irq", "softirq"))
    return Machine(busy / ticks, fields.get("steal", 0) / ticks)


# --- the system ----------------------------------------------------------------------------------


def why_unsupported() -> str | None:
    """Why this machine cannot be measured; None when it can."""
    if not Path("/proc/self/statm").exists():
        return (
            "the benchmark reads CPU time and memory of other processes from /proc, which only "
            "Linux has: run it in a Linux container or virtual machine"
        )
    return None


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, all its threads, also those that ended."""
    try:
        # Linux: the CPU clock of process `pid`, in nanoseconds; see clock_getcpuclockid(3).
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        # Without it: user and system time in ticks of 10 ms.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine() -> Machine:
    """The whole machine, now."""
    return parse_machine(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))
