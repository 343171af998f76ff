"""The command `switchboard`, as a person runs it: real processes, real signals."""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import sys
import wave
from collections.abc import AsyncIterator

import pytest

from cli.processes import free_port
from simulators import g711
from simulators.audio_file import read_wav
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

COMMAND = [sys.executable, "-m", "cli.main"]
ROOT = pathlib.Path(__file__).parent.parent.parent


def surroundings(place: pathlib.Path, **more: str) -> dict[str, str]:
    """The environment of a fresh machine."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "SWITCHBOARD_DATA": str(place / "data"),
        "COLUMNS": "200",
        **more,
    }


async def run(place: pathlib.Path, *arguments: str, **more: str) -> tuple[int, str]:
    """Run a command to its end: exit code and everything it printed."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=place,
        env=surroundings(place, **more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@contextlib.asynccontextmanager
async def up(place: pathlib.Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`switchboard up`, ready to be called."""
    log = place / "up.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "up",
            *arguments,
            cwd=place,
            env=surroundings(place, LISTEN_PORT=str(free_port())),
            stdout=out,
            stderr=out,
        )
    try:
        await eventually(lambda: (place / "data" / "up.json").exists(), 60)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), 60)


def alive(place: pathlib.Path) -> list[str]:
    """Command lines of processes whose environment is this place's."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(place).encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
async def test_up_can_be_called_from_another_terminal_and_stops_in_order(
    tmp_path: pathlib.Path,
) -> None:
    async with up(tmp_path) as process:
        await eventually(lambda: "SIMULATED" in (tmp_path / "up.log").read_text())
        code, text = await run(tmp_path, "agents", "list")
        assert code == 0
        assert "default" in text

        wav = tmp_path / "question.wav"
        from simulators.speech import speak

        with wave.open(str(wav), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16000)
            out.writeframes(speak("Do you have parking?", voice="caller", rate_hz=16000).tobytes())
        code, text = await run(tmp_path, "call", "--wav", str(wav), "--out", str(tmp_path / "out"))
        assert code == 0, text
        assert "first agent audio" in text
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["answered_by_agent"] is True
        assert summary["warnings"] == []
        assert "front desk" in (tmp_path / "out" / "transcript.txt").read_text()
        said = read_wav(tmp_path / "out" / "call.wav", g711.SAMPLE_RATE)
        assert len(said) / g711.SAMPLE_RATE > 5

        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    assert alive(tmp_path) == []
    assert not (tmp_path / "data" / "up.json").exists()
    stopped = [
        line for line in (tmp_path / "up.log").read_text().splitlines() if "stopping" in line
    ]
    assert [line.split()[-1] for line in stopped] == [
        "gateway",
        "session",
        "holdmusic",
        "tools",
        "model-simulator",
        "object-store",
        "logs",
        "nats-server",
    ]


async def test_an_agent_is_changed_and_a_wrong_one_is_refused(tmp_path: pathlib.Path) -> None:
    async with up(tmp_path):
        code, text = await run(tmp_path, "agents", "show")
        assert code == 0
        agent = json.loads(text)
        agent |= {"id": "sales", "numbers": ["+15550001111"], "voice": "cedar"}
        file = tmp_path / "agent.json"
        file.write_text(json.dumps(agent))
        code, text = await run(tmp_path, "agents", "set", str(file))
        assert code == 0, text
        code, text = await run(tmp_path, "agents", "list")
        assert "+15550001111" in text

        for wrong in ({"voice": "nobody"}, {"voise": "cedar"}):
            file.write_text(json.dumps(agent | wrong))
            code, text = await run(tmp_path, "agents", "set", str(file))
            assert code == 1
            assert next(iter(wrong)) in text


async def test_a_call_to_nobody_says_so(tmp_path: pathlib.Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, text = await run(tmp_path, "call", "--url", url, "--out", str(tmp_path / "out"))
    assert code == 1
    assert "failed" in text


async def test_a_scenario_with_a_mistake_is_explained(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text('{"name": "x", "steps": [{"sing": "la"}]}')
    code, text = await run(tmp_path, "call", "--scenario", str(file))
    assert code == 1
    assert "wrong.json" in text


async def test_up_with_its_port_taken_names_the_variable(tmp_path: pathlib.Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        code, text = await run(tmp_path, "up", LISTEN_PORT=str(port))
    finally:
        server.close()
        await server.wait_closed()
    assert code == 1
    assert "LISTEN_PORT" in text


async def test_services_refuse_wrong_settings_all_at_once(tmp_path: pathlib.Path) -> None:
    env = surroundings(tmp_path, MAX_CALLS="none", DRAIN_S="-1", LOG_LEVEL="loud")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.session"),
        cwd=tmp_path,
        env=env,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    text = err.decode()
    for variable in ("MAX_CALLS", "DRAIN_S", "LOG_LEVEL"):
        assert variable in text


async def test_help_teaches(tmp_path: pathlib.Path) -> None:
    code, text = await run(tmp_path, "--help")
    assert code == 0
    for command in ("up", "call", "demo", "doctor", "agents"):
        assert command in text
