"""`python -m benchmarks.run`: what a call costs, and what it adds, against a bare relay.

Both systems are run in turn, each with fresh processes, under the same load generator: simulated
phones that time every frame's way to an echoing model and back.  See docs/benchmark.md.

Status 0: measured, whatever the figures; 1: something broke; 2: wrong arguments or machine.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import measures, report, systems
from benchmarks.report import BARE, OURS, Run
from benchmarks.systems import BrokenError, Child, System

CALLS: Final = (1, 10, 50, 100)
QUICK_CALLS: Final = (1, 10)
CALLS_MAX: Final = 1000
SECONDS: Final = 10.0
QUICK_SECONDS: Final = 3.0
ROUNDS: Final = 2
SECONDS_MAX: Final = 600.0
#: Between the last phone that hears itself and the measurement: caches, allocators, kept audio.
WARM_UP_S: Final = 2.0
QUICK_WARM_UP_S: Final = 0.5
#: Before memory without calls is read, so that what the start left behind is done.
SETTLE_S: Final = 0.5
#: From the phones' first connection until all hear themselves; above what they allow themselves.
READY_TIMEOUT_S: Final = 60.0
#: From the end of the window to the phones' result.
RESULT_TIMEOUT_S: Final = 10.0

Start = Callable[[str, Path, int], AbstractAsyncContextManager[System]]
SYSTEMS: Final[dict[str, Start]] = {BARE: systems.bare, OURS: systems.switchboard}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    calls: tuple[int, ...]
    seconds: float
    warm_up_s: float
    rounds: int
    json_path: Path | None


def plan_from(arguments: list[str]) -> Plan:
    """Read the command line; exits with status 2 when it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--calls", help="numbers of calls at once, e.g. 1,10,50,100")
    parser.add_argument("--seconds", type=float, help=f"of each measurement, default {SECONDS:g}")
    parser.add_argument("--rounds", type=int, help=f"repeat, print medians, default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="few calls, short: does it work?")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure there")
    given = parser.parse_args(arguments)
    try:
        calls = tuple(int(one) for one in given.calls.split(",")) if given.calls else ()
    except ValueError:
        parser.error("--calls: numbers with commas between, e.g. 1,10")
    calls = calls or (QUICK_CALLS if given.quick else CALLS)
    usual = QUICK_SECONDS if given.quick else SECONDS
    seconds = usual if given.seconds is None else given.seconds
    if not all(1 <= one <= CALLS_MAX for one in calls):
        parser.error(f"--calls: from 1 to {CALLS_MAX}")
    if not 1 <= seconds <= SECONDS_MAX:
        parser.error(f"--seconds: from 1 to {SECONDS_MAX:g}")
    rounds = (1 if given.quick else ROUNDS) if given.rounds is None else given.rounds
    if not 1 <= rounds <= 100:
        parser.error("--rounds: from 1 to 100")
    warm_up_s = QUICK_WARM_UP_S if given.quick else WARM_UP_S
    return Plan(calls, seconds, warm_up_s, rounds, given.json)


# --- one measurement -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    """CPU seconds at one moment."""

    system: dict[str, float]
    generator: float
    machine: measures.Machine


def _read(system: System, generator: list[Child]) -> _Reading:
    return _Reading(
        {one.name: measures.cpu_s(one.pid) for one in system.processes},
        sum(measures.cpu_s(one.pid) for one in generator),
        measures.machine(),
    )


async def measure(name: str, calls: int, number: int, plan: Plan, folder: Path) -> Run:
    """Start a system and its load, measure, end them.  Raises `BrokenError`."""
    async with (
        _model(folder) as (model, model_url),
        SYSTEMS[name](model_url, folder, calls) as system,
    ):
        await asyncio.sleep(SETTLE_S)
        empty = {one.name: measures.rss_bytes(one.pid) for one in system.processes}
        command = systems.python("benchmarks.phones", "--url", system.url, "--calls", str(calls))
        async with systems.child("phones", command, folder, talks=True) as phones:
            try:
                await phones.hear(READY_TIMEOUT_S)
            except BrokenError as error:
                tails = "".join(f"\n--- {one.name}\n{one.tail()}" for one in system.processes)
                raise BrokenError(f"{error}{tails}") from None
            generator = [model, phones]
            from_ns = time.monotonic_ns() + int(plan.warm_up_s * 1e9)
            to_ns = from_ns + int(plan.seconds * 1e9)
            await phones.tell(from_ns=from_ns, to_ns=to_ns)
            began, before = await _read_at(from_ns, system, generator)
            ended, after = await _read_at(to_ns, system, generator)
            system.check()  # who ended has no figures
            full = {one.name: measures.rss_bytes(one.pid) for one in system.processes}
            result = (await phones.hear(_result_timeout_s(plan)))["result"]
    return _run(name, calls, number, ended - began, before, after, empty, full, result)


def _result_timeout_s(plan: Plan) -> float:
    """How long the phones may take for their result after the window."""
    return RESULT_TIMEOUT_S + plan.seconds / 10


async def _read_at(at_ns: int, system: System, load: list[Child]) -> tuple[float, _Reading]:
    await asyncio.sleep(max(0, at_ns - time.monotonic_ns()) / 1e9)
    return time.monotonic(), _read(system, load)


def _run(
    name: str,
    calls: int,
    number: int,
    seconds: float,
    before: _Reading,
    after: _Reading,
    empty: dict[str, int],
    full: dict[str, int],
    result: dict[str, Any],
) -> Run:
    trips, lateness = result["round_trip_ms"], result["lateness_ms"]
    if trips is None or lateness is None:
        raise BrokenError(f"{name}: not one frame came back ({result['dropped_calls']})")
    used = {one: after.system[one] - before.system[one] for one in after.system}
    generator_s = after.generator - before.generator
    return Run(
        system=name,
        calls=calls,
        round=number,
        seconds=seconds,
        cpu_ms={one: measures.per_call_second(used[one], calls, seconds) for one in used},
        memory_mb={one: measures.per_call_mb(empty[one], full[one], calls) for one in full},
        p50=trips["p50"],
        p99=trips["p99"],
        p999=trips["p999"],
        worst=trips["worst"],
        sent=result["sent"],
        lost=result["lost"],
        late=result["late"],
        disordered=result["disordered"],
        dropped_calls=len(result["dropped_calls"]),
        lateness_p99=lateness["p99"],
        lateness_worst=lateness["worst"],
        elsewhere=measures.elsewhere(
            before.machine,
            after.machine,
            sum(used.values()) + generator_s,
            seconds,
            os.cpu_count() or 1,
        ),
        load_generator_ms=measures.per_call_second(generator_s, calls, seconds),
    )


@contextlib.asynccontextmanager
async def _model(folder: Path) -> AsyncIterator[tuple[Child, str]]:
    command = systems.python("benchmarks.echo_model")
    async with systems.child("model", command, folder, talks=True) as model:
        port = (await model.hear(systems.START_TIMEOUT_S))["port"]
        yield model, f"ws://127.0.0.1:{port}/v1/realtime"


# --- all of them ---------------------------------------------------------------------------------


async def measure_all(plan: Plan) -> list[Run]:
    """Every number of calls, both systems in turn, as often as asked.  Raises `BrokenError`."""
    runs: list[Run] = []
    for number in range(1, plan.rounds + 1):
        for calls in plan.calls:
            for name in SYSTEMS:
                _progress(f"round {number}/{plan.rounds}: {calls} calls, {name} ...")
                with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                    run = await measure(name, calls, number, plan, Path(folder))
                runs.append(run)
                why = "; ".join(run.disturbed())
                _progress(
                    f"    CPU {run.cpu_total_ms:.1f} ms, p99 {run.p99:.1f} ms, lost {run.lost}, "
                    f"phones late by {run.lateness_p99:.1f} ms (p99), "
                    f"{run.elsewhere:.0%} of the machine elsewhere"
                    + (f" -- DISTURBED: {why}" if why else "")
                )
    return runs


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(runs: list[Run], plan: Plan) -> None:
    lines = report.rows(runs)
    judged = report.verdicts(lines)
    print(
        f"\nEach: {plan.seconds:g} s, {plan.rounds} round(s), {os.cpu_count()} cores, "
        f"Python {platform.python_version()}.  "
        "CPU: ms per second of one call.  Round trips: phone to model and back.\n"
    )
    print(report.table(lines))
    print()
    print(report.targets(judged))
    if trouble := report.disturbances(runs):
        print(f"\n{trouble}")
    broken = [run for run in runs if run.dropped_calls or run.disordered]
    for run in broken:
        print(
            f"FAULT  {run.system}, {run.calls} calls, round {run.round}: "
            f"{run.dropped_calls} kinds of lost sockets, {run.disordered} frames out of order"
        )
    if plan.json_path is not None:
        found = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "runs": [report.describe(run) for run in runs],
            "targets": [
                {
                    "target": one.target,
                    "value": one.value,
                    "limit": one.limit,
                    "unit": one.unit,
                    "reached": one.reached,
                }
                for one in judged
            ],
        }
        plan.json_path.write_text(json.dumps(found, indent=2) + "\n")


async def _until_signal(plan: Plan) -> list[Run]:
    """Measure; SIGINT and SIGTERM end it in order."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Once: a second signal must not cut the ending of our processes short.
        if not task.cancelling():
            task.cancel()

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(one, stop)
    return await measure_all(plan)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit status."""
    plan = plan_from(sys.argv[1:] if arguments is None else arguments)
    why = measures.why_unsupported()
    if why is not None:
        _progress(why)
        return 2
    try:
        runs = asyncio.run(_until_signal(plan))
    except BrokenError as error:
        _progress(f"broken: {error}")
        return 1
    except asyncio.CancelledError:
        _progress("stopped")
        return 130
    _show(runs, plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
