"""The simulated model on a real socket: connecting, being refused, and going wrong on purpose."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from simulators.openai_realtime import Faults, RealtimeSimulator, Script, Step, Turn, main
from simulators.realtime import faults as fault_switches
from tests.helpers import eventually
from tests.unit.simulators.model_driver import PHONE, check_server_event, said

pytestmark = pytest.mark.unit

Json = dict[str, Any]

MODEL = "gpt-realtime-2.1"
KEY = {"Authorization": "Bearer sk-sim"}


class Client:
    """A client that keeps every event it is sent."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Json] = []
        self.closed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                event = json.loads(message)
                check_server_event(event)
                self.events.append(event)
        except ConnectionClosed:
            pass
        self.closed.set()

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def until(self, kind: str, nth: int = 1) -> Json:
        await eventually(lambda: self.kinds().count(kind) >= nth)
        return [event for event in self.events if event["type"] == kind][nth - 1]

    async def close(self) -> None:
        await self.socket.close()
        await self._reading


@asynccontextmanager
async def client(
    sim: RealtimeSimulator, model: str | None = MODEL, headers: dict[str, str] = KEY
) -> AsyncIterator[Client]:
    query = f"?model={model}" if model else ""
    async with connect(sim.url + query, additional_headers=headers, compression=None) as socket:
        connected = Client(socket)
        yield connected
        await connected.close()


async def test_a_call_over_the_wire() -> None:
    script = Script(
        greeting=Step(say="Hello."), turns=(Turn(hear="Hi.", say="Goodbye."),), think_ms=10
    )
    async with RealtimeSimulator(scripts={"acme": script}) as sim:
        async with client(sim, "acme") as caller:
            await caller.send("session.update", session=PHONE)
            await caller.send("response.create")
            await caller.until("response.done")
            audio = said("Hi there, who is this?", silence_ms=1000)
            for start in range(0, len(audio), 160):
                frame = base64.b64encode(audio[start : start + 160]).decode()
                await caller.send("input_audio_buffer.append", audio=frame)
            done = await caller.until("response.done", nth=2)
            item_id = done["response"]["output"][0]["id"]
            fields = {"item_id": item_id, "content_index": 0, "audio_end_ms": 100}
            await caller.send("conversation.item.truncate", **fields)
            await caller.until("conversation.item.truncated")
            await caller.send("nonsense")
            await caller.until("error")
            await caller.until("rate_limits.updated", nth=2)
            await caller.until("conversation.item.input_audio_transcription.completed")
        (record,) = sim.connections
        await eventually(lambda: record.closed)
    assert record.model == "acme"
    assert record.headers["authorization"] == "Bearer sk-sim"
    assert record.close_code == 1000
    assert record.config["audio"]["output"]["format"] == {"type": "audio/pcmu"}
    assert [event["type"] for event in record.received] == [
        "session.update",
        "response.create",
        "input_audio_buffer.append",
        "conversation.item.truncate",
        "nonsense",
    ]
    assert record.received[2]["audio_bytes"] == record.appended_bytes == len(audio)
    assert record.caller_audio == audio
    assert [event["type"] for event in record.sent] == caller.kinds()
    assert record.truncations == [(item_id, 100)]
    assert [error["code"] for error in record.errors] == ["invalid_value"]
    assert record.transcript[:2] == [("assistant", "Hello."), ("caller", "Hi.")]
    heard = b"".join(
        base64.b64decode(event["delta"])
        for event in caller.events
        if event["type"] == "response.output_audio.delta" and event["item_id"] == item_id
    )
    assert record.audio_sent_ms[item_id] == pytest.approx(len(heard) / 8)


@pytest.mark.parametrize(
    ("model", "headers", "code", "close_code", "reason"),
    [
        (MODEL, {"Authorization": "Bearer wrong"}, "invalid_api_key", 3000, ".invalid_api_key"),
        (MODEL, {}, None, 3000, ""),
        ("gpt-9", KEY, "invalid_model", 4000, ".invalid_model"),
        (None, KEY, "missing_model", 4000, ".missing_model"),
        (
            MODEL,
            {**KEY, "OpenAI-Beta": "realtime=v1"},
            "beta_api_shape_disabled",
            4000,
            ".beta_api_shape_disabled",
        ),
    ],
)
async def test_unwelcome_connections_are_told_after_the_upgrade(
    model: str | None, headers: dict[str, str], code: str | None, close_code: int, reason: str
) -> None:
    async with RealtimeSimulator() as sim, client(sim, model, headers) as caller:
        await caller.closed.wait()
        assert caller.kinds() == ["error"]
        assert caller.events[0]["error"]["code"] == code
        assert caller.socket.close_code == close_code
        assert caller.socket.close_reason == f"invalid_request_error{reason}"
        await eventually(lambda: sim.connections[-1].close_code == close_code)


async def test_any_key_when_none_is_configured() -> None:
    headers = {"Authorization": "Bearer whatever"}
    async with RealtimeSimulator(api_key=None) as sim, client(sim, headers=headers) as caller:
        await caller.until("session.created")


async def test_upgrades_can_be_refused() -> None:
    async with RealtimeSimulator(faults=Faults(refuse_first_n=2)) as sim:
        for _ in range(2):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{sim.url}?model={MODEL}", additional_headers=KEY)
            assert refused.value.response.status_code == 503
        async with client(sim) as caller:
            await caller.until("session.created")
        sim.faults = Faults(http_status=429)
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{sim.url}?model={MODEL}", additional_headers=KEY)
        assert refused.value.response.status_code == 429
        with pytest.raises(InvalidStatus):
            await connect(sim.url.replace("/v1/", "/v2/"), additional_headers=KEY)


async def test_a_dropped_connection_ends_without_a_close_frame() -> None:
    faults = Faults(drop_on="response.created", first_n=1)
    async with RealtimeSimulator(faults=faults) as sim:
        async with client(sim) as caller:
            await caller.send("response.create")
            await caller.closed.wait()
            assert caller.kinds()[-1] == "response.created"
            assert caller.socket.close_code == 1006
        async with client(sim) as caller:
            await caller.send("response.create")
            await caller.until("response.done")
        await eventually(lambda: [c.close_code for c in sim.connections] == [1006, 1000])


async def test_a_model_can_have_faults_of_its_own() -> None:
    faults_by_model = {"gpt-realtime-2.1-mini": Faults(session_ms=100)}
    async with (
        RealtimeSimulator(faults_by_model=faults_by_model) as sim,
        client(sim, "gpt-realtime-2.1-mini") as caller,
        client(sim) as other,
    ):
        await caller.closed.wait()
        assert caller.socket.close_code == 1001
        assert caller.events[-1]["error"]["code"] == "session_expired"
        assert caller.socket.close_reason == caller.events[-1]["error"]["message"]
        await other.send("response.create")
        await other.until("response.created")


async def test_a_connection_can_be_hurt_by_hand() -> None:
    async with RealtimeSimulator() as sim:
        async with client(sim) as caller:
            await caller.until("session.created")
            sim.connections[-1].send_error({"code": "rate_limit_exceeded"})
            await caller.until("error")
            sim.connections[-1].expire()
            await caller.closed.wait()
            assert caller.socket.close_code == 1001
        async with client(sim) as caller:
            await caller.until("session.created")
            sim.connections[-1].abort()
            await caller.closed.wait()
            assert caller.socket.close_code == 1006
        sim.connections[-1].abort()  # too late, and harmless


async def test_stopping_does_not_wait_for_a_slow_dial() -> None:
    sim = RealtimeSimulator(faults=Faults(dial_delay_ms=600_000))
    await sim.start()
    async with client(sim) as caller:
        await eventually(lambda: sim.connections)
        await sim.stop()
        await caller.closed.wait()
        assert caller.events == []


async def test_records_are_bounded() -> None:
    async with RealtimeSimulator() as sim:
        for _ in range(70):
            async with client(sim, headers={}) as caller:
                await caller.closed.wait()
        assert len(sim.connections) == 64


def test_faults_are_read_from_text() -> None:
    pairs = ["dial_delay_ms=3000", "late_deltas=False", "drop_on=response.done", "drop_after_ms=5"]
    faults = fault_switches.parsed([*pairs, 'error_events=[[10,{"code":"a"}]]', "reject_update=1"])
    assert (faults.dial_delay_ms, faults.late_deltas, faults.drop_on) == (
        3000,
        False,
        "response.done",
    )
    assert (faults.drop_after_ms, faults.reject_update) == (5, 1)
    assert faults.error_events == [(10, {"code": "a"})]
    for wrong in ("nothing=1", "dial_delay_ms=soon", "connections_seen=1"):
        with pytest.raises(ValueError, match=wrong.split("=")[0]):
            fault_switches.parsed([wrong])


async def test_the_command_serves_scripts_until_it_is_told_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "acme.json"
    path.write_text(json.dumps({"name": "acme", "greeting": {"say": "Hello."}, "think_ms": 10}))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulators.openai_realtime", "--script", str(path), "--log"),
        *("--fault", "stall_response_ms=1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with connect(f"{url}?model=acme", additional_headers=KEY, compression=None) as socket:
        caller = Client(socket)
        await caller.send("response.create")
        done = await caller.until("response.done")
        await caller.close()
    assert done["response"]["output"][0]["content"][0]["transcript"] == "Hello."
    process.send_signal(signal.SIGTERM)
    _stdout, stderr = await process.communicate()
    assert process.returncode == 0
    assert '> {"type": "response.create"}' in stderr.decode()


@pytest.mark.parametrize("arguments", [["--fault", "x=1"], ["--script", "/no/such/file"]])
def test_the_command_says_what_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert '"greeting"' in text
    assert "drop_after_ms (default None)" in text
    assert "without a close frame" in text
