"""The command, and one real run of everything for a second."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import measures, run, systems
from benchmarks.report import BARE, OURS
from benchmarks.systems import BrokenError

linux = pytest.mark.skipif(measures.why_unsupported() is not None, reason="needs Linux's /proc")


@pytest.mark.unit
def test_what_is_measured_by_default() -> None:
    plan = run.plan_from([])
    assert (plan.calls, plan.seconds, plan.rounds) == ((1, 10, 50, 100), 10.0, run.ROUNDS)
    assert plan.json_path is None


@pytest.mark.unit
def test_quick_is_small_and_can_be_overruled() -> None:
    assert run.plan_from(["--quick"]).calls == run.QUICK_CALLS
    plan = run.plan_from(["--quick", "--calls", "2,3", "--seconds", "1", "--json", "x.json"])
    assert (plan.calls, plan.seconds, plan.rounds) == ((2, 3), 1.0, 1)
    assert plan.json_path == Path("x.json")


@pytest.mark.unit
@pytest.mark.parametrize(
    "arguments",
    [
        ["--calls", "many"],
        ["--calls", "0"],
        ["--calls", "1001"],
        ["--seconds", "0"],
        ["--seconds", "601"],
        ["--rounds", "0"],
        ["--nonsense"],
    ],
)
def test_nonsense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run.plan_from(arguments)
    assert caught.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.unit
def test_another_system_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measures, "why_unsupported", lambda: "no /proc here")
    assert run.main(["--quick"]) == 2
    assert "no /proc here" in capsys.readouterr().err


@pytest.mark.unit
async def test_a_child_that_ends_is_broken_and_its_log_is_shown(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    async with systems.child("one", command, tmp_path, talks=True) as one:
        with pytest.raises(BrokenError, match="no such luck"):
            await one.hear(20)
        await asyncio.wait_for(one._process.wait(), 20)
        with pytest.raises(BrokenError, match="status 1"):
            one.check()


@pytest.mark.unit
async def test_a_child_that_says_nothing_is_broken_and_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    async with systems.child("one", command, tmp_path, talks=True) as one:
        with pytest.raises(BrokenError, match="nothing within"):
            await one.hear(0.05)
    assert one._process.returncode == 0


@pytest.mark.unit
async def test_a_child_that_will_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "STOP_TIMEOUT_S", 0.2)
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); print('{}', flush=True)"
    command = [sys.executable, "-c", code + "; time.sleep(60)"]
    async with systems.child("one", command, tmp_path, talks=True) as one:
        await one.hear(20)
    assert one._process.returncode == -signal.SIGKILL


@pytest.mark.unit
async def test_a_child_inherits_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    code = "import json,os; print(json.dumps(dict(os.environ)), flush=True)"
    async with systems.child(
        "one", [sys.executable, "-c", code], tmp_path, env={"OWN": "1"}, talks=True
    ) as one:
        heard = await one.hear(20)
    assert heard["OWN"] == "1"
    assert "OPENAI_API_KEY" not in heard


def _descendants(pid: int) -> list[int]:
    """Processes below `pid`, as far as they can be seen."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                child = int(file.parent.name)
                found += [child, *_descendants(child)]
    return found


def _start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.run", "--quick", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=systems.ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )


@linux
@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_two_calls_for_a_second(tmp_path: Path) -> None:
    figures, temporary = tmp_path / "figures.json", tmp_path / "tmp"
    temporary.mkdir()
    with _start(temporary, "--calls", "2", "--seconds", "1", "--json", str(figures)) as command:
        out, progress = command.communicate(timeout=150)
    assert command.returncode == 0, progress
    assert "not measured" in out
    found = json.loads(figures.read_text())
    bare, ours = found["runs"]
    assert (bare["system"], ours["system"]) == (BARE, OURS)
    assert set(ours["cpu_ms"]) == {"gateway", "nats", "session"}
    for one in (bare, ours):
        assert all(value > 0 for value in one["cpu_ms"].values())
        assert 80 <= one["sent"] <= 120  # a second of two phones, on a machine that may be busy
        assert (one["disordered"], one["dropped_calls"]) == (0, 0)
        assert 0 < one["p50"] <= one["p99"] <= one["worst"]
    assert len(found["targets"]) == 5
    assert list(temporary.iterdir()) == []


@linux
@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with _start(tmp_path, "--calls", "1", "--seconds", "60") as command:
        deadline = time.monotonic() + 60
        # The relay, the model and the phones are up.
        while len(below := _descendants(command.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        _, progress = command.communicate(timeout=40)
    assert len(below) >= 3
    assert command.returncode == 130, progress
    assert "stopped" in progress
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []
