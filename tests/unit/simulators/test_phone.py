"""Whole calls against a small server: what Twilio would send, obey, play and say about it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulators import g711
from simulators.phone import CallEndedError, OutcomeKind, Phone
from tests.helpers import eventually
from tests.unit.simulators.voice_server import TOKEN, Socket, VoiceServer, tone, voice_server

pytestmark = pytest.mark.unit


@pytest.fixture
async def server() -> AsyncIterator[VoiceServer]:
    async with voice_server() as server:
        yield server


@pytest.fixture(autouse=True)
async def nothing_left_running() -> AsyncIterator[None]:
    yield
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


def _phone(server: VoiceServer, **options: Any) -> Phone:
    return Phone(webhook=f"{server.url}/twiml", auth_token=TOKEN, **options)


def _kinds(phone: Phone) -> Iterator[str]:
    return (event.kind for event in phone.events)


def _codes(phone: Phone) -> list[int]:
    return [warning.code for warning in phone.warnings]


async def test_call_is_announced_streamed_and_hung_up_by_the_caller(server: VoiceServer) -> None:
    inner = '<Parameter name="call" value="c1"/>'
    server.answer("/twiml", f"<Connect>{server.stream(inner=inner)}</Connect><Hangup/>")
    server.answer("/status", "")
    async with _phone(server, status_callback=f"{server.url}/status") as phone:
        await phone.dial()
        socket = server.sockets[0]
        await eventually(lambda: len(socket.of("media")) >= 10)
        await phone.hang_up()

    webhook = server.requests_to("/twiml")[0]
    assert webhook.signed
    assert server.upgrades_signed == [True]
    assert webhook.headers["I-Twilio-Idempotency-Token"]
    assert webhook.form["CallStatus"] == "ringing"
    assert webhook.form["From"] == webhook.form["Caller"] == "+15557778888"
    assert webhook.form["To"] == webhook.form["Called"] == "+15551230000"
    assert webhook.form["FromCity"] == ""
    assert webhook.form["CallSid"] == phone.identity.call_sid

    assert [message["event"] for message in socket.messages[:3]] == ["connected", "start", "media"]
    assert socket.messages[-1]["event"] == "stop"
    assert socket.of("start")[0]["start"]["customParameters"] == {"call": "c1"}
    numbered = socket.messages[1:]
    assert [m["sequenceNumber"] for m in numbered] == [str(n + 1) for n in range(len(numbered))]
    media = [message["media"] for message in socket.of("media")]
    assert [m["chunk"] for m in media] == [str(n + 1) for n in range(len(media))]
    assert int(media[0]["timestamp"]) > 100
    times = np.diff([int(m["timestamp"]) for m in media])
    assert 19 <= times.min() <= times.max() <= 21
    assert len(socket.audio) == 160 * len(media)

    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER
    assert phone.warnings == []
    assert list(_kinds(phone)) == [
        *("webhook", "twiml", "answered", "stream_connected"),
        *("hang_up", "stream_closed", "ended", "status_callback"),
    ]
    status = server.requests_to("/status")[0]
    assert status.signed
    assert status.form["CallStatus"] == "completed"
    assert status.form["SequenceNumber"] == "0"
    assert int(status.form["CallDuration"]) >= 0


async def test_webhook_by_get_is_signed_over_its_query(server: VoiceServer) -> None:
    server.answer("/twiml", "<Hangup/>")
    phone = Phone(f"{server.url}/twiml?tenant=a%20b", auth_token=TOKEN, webhook_method="GET")
    async with phone:
        await phone.dial()
    assert server.requests[0].signed
    assert server.requests[0].form == {}


async def test_agent_is_heard_and_marks_come_back(server: VoiceServer) -> None:
    async def agent(socket: Socket, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            await socket.play(tone(300))
            await socket.mark("half")
            await socket.play(tone(300))
            await socket.mark("end")

    server.agent = agent
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        await phone.wait_heard_ms(300)
        await phone.wait_agent_turn(quiet_ms=300)
        await eventually(lambda: len(server.sockets[0].of("mark")) == 2)

    assert [m["mark"]["name"] for m in server.sockets[0].of("mark")] == ["half", "end"]
    half, end = phone.marks
    assert half.played_ms is not None
    assert end.played_ms is not None
    # By the playout clock, which the load of the machine does not change.
    assert end.played_ms - half.played_ms == pytest.approx(300, abs=25)
    heard_ms = sum(stop - start for start, stop in phone.recording.segments("heard"))
    assert heard_ms == pytest.approx(600, abs=60)
    assert phone.summary()["answered_by_agent"]
    assert "first_audio" in _kinds(phone)


async def test_clear_stops_the_agent_and_tells_what_was_heard(server: VoiceServer) -> None:
    async def agent(socket: Socket, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            await socket.play(tone(20_000))
            await socket.mark("end")
        if message["event"] == "dtmf":
            await socket.send("clear")

    server.agent = agent
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await phone.wait_heard_ms(400)
        await phone.dtmf("1")
        await phone.wait_agent_quiet(quiet_ms=200)
        await eventually(lambda: server.sockets[0].of("mark"))

    assert server.sockets[0].of("dtmf")[0]["dtmf"] == {"track": "inbound_track", "digit": "1"}
    (clear,) = phone.clears
    assert clear.marks == ("end",)
    assert clear.played_bytes + clear.dropped_bytes == 160_000
    assert clear.played_bytes >= 380 * 8  # of the first frame, a part was silent
    assert phone.marks[0].cleared
    heard_ms = sum(stop - start for start, stop in phone.recording.segments("heard"))
    assert heard_ms == pytest.approx(clear.played_bytes / 8, abs=60)


async def test_caller_is_heard_by_the_server_as_recorded(
    server: VoiceServer, tmp_path: Path
) -> None:
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await phone.say("Hello, is anybody there?")
        await phone.play_pcm(g711.decode(tone(200)))
        await phone.hang_up()
        with pytest.raises(CallEndedError):
            await phone.say("Too late")

    spoken = bytes(server.sockets[0].audio)
    said = g711.encode(phone.said)
    assert spoken in said  # frame for frame, continuous, in silence too
    assert phone.said_text == ["Hello, is anybody there?"]
    assert g711.rms_dbfs(phone.said) > -40
    phone.recording.write_wav(tmp_path / "call.wav")
    assert (tmp_path / "call.wav").stat().st_size == 44 + 4 * len(phone.said)
    json.dumps(phone.summary())


async def test_lost_frames_leave_a_jump_in_the_timestamps(server: VoiceServer) -> None:
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server, lose_frames=[2, 3]) as phone:
        await phone.dial()
        await eventually(lambda: len(server.sockets[0].of("media")) >= 4)
    media = [message["media"] for message in server.sockets[0].of("media")[:4]]
    assert [m["chunk"] for m in media] == ["1", "2", "3", "4"]
    times = [int(m["timestamp"]) for m in media]
    assert times[2] - times[1] > 55


async def test_invalid_messages_are_warned_of_and_have_no_effect(server: VoiceServer) -> None:
    async def agent(socket: Socket, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            await socket.ws.send_str("nonsense")
            await socket.send("media", media={"payload": "AAAA", "track": "outbound"})
            await socket.ws.send_bytes(b"\x00")
            await socket.mark("after")

    server.agent = agent
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await eventually(lambda: server.sockets[0].of("mark"))
    assert _codes(phone) == [31951, 31951, 31950]
    assert phone.recording.segments("heard") == []


async def test_more_than_ten_minutes_of_audio_is_warned_of_once(server: VoiceServer) -> None:
    async def agent(socket: Socket, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            for _ in range(12):
                await socket.play(bytes(60 * 8000))
            await socket.mark("all sent")
            await socket.send("clear")

    server.agent = agent
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await eventually(lambda: phone.clears)
    assert _codes(phone) == [31931]


async def test_action_is_asked_when_the_server_closes_and_reattaches(server: VoiceServer) -> None:
    async def agent(socket: Socket, message: dict[str, Any]) -> None:
        if message["event"] == "media" and len(server.sockets) == 1:
            await socket.ws.close(code=1000)

    server.agent = agent
    connect = f'<Connect action="/twiml/after?n=1">{server.stream()}</Connect><Say>never</Say>'
    again = f"<Connect>{server.stream('/call/token-2')}</Connect><Hangup/>"
    server.answer("/twiml", connect)
    server.answer("/twiml/after", again)
    async with _phone(server) as phone:
        await phone.dial()
        await eventually(lambda: len(server.sockets) == 2 and server.sockets[1].of("media"))
        await phone.hang_up()
    first, second = (socket.of("start")[0]["start"] for socket in server.sockets)
    assert first["callSid"] == second["callSid"]
    assert first["streamSid"] != second["streamSid"]
    assert server.sockets[1].of("media")[0]["media"]["chunk"] == "1"
    after = server.requests_to("/twiml/after")[0]
    assert after.signed
    assert after.form["CallStatus"] == "in-progress"
    assert not server.sockets[0].of("stop")
    assert phone.heard_say == []
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER


async def test_server_hangs_up_by_closing_with_nothing_to_follow(server: VoiceServer) -> None:
    async def agent(socket: Socket, message: dict[str, Any]) -> None:
        if message["event"] == "media":
            await socket.ws.close(code=1011, message=b"oops")

    server.agent = agent
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await phone.wait_ended()
        with pytest.raises(CallEndedError):
            await phone.wait_agent_speaking()
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER
    assert _codes(phone) == [31921]


async def test_lost_socket_leads_to_action_without_a_stop(server: VoiceServer) -> None:
    server.answer("/twiml", f'<Connect action="/twiml/after">{server.stream()}</Connect>')
    server.answer("/twiml/after", "<Hangup/>")
    async with _phone(server) as phone:
        await phone.dial()
        await eventually(lambda: server.sockets[0].of("media"))
        await phone.abort_stream()
        await phone.wait_ended()
    await eventually(lambda: server.sockets[0].closed)
    assert not server.sockets[0].of("stop")
    assert _codes(phone) == [31903]
    assert len(server.requests_to("/twiml/after")) == 1
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER


async def test_refused_upgrade_goes_on_to_the_next_verb(server: VoiceServer) -> None:
    server.refuse_upgrade = True
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect><Say>Sorry</Say>")
    async with _phone(server) as phone:
        await phone.dial()
    assert _codes(phone) == [31920]
    assert phone.heard_say == ["Sorry"]
    assert phone.outcome.kind is OutcomeKind.BUSY_SAID
    assert phone.recording.segments("heard")
    assert phone.recording.segments("agent") == []
    assert not phone.answered_by_agent


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        ('<Stream url="ws://voice.example.com/call"/>', 31922),
        ('<Stream url="ws://127.0.0.1:1/call"/>', 31902),
        ('<Stream url="ws://127.0.0.1:1/call" track="both_tracks"/>', 31941),
    ],
)
async def test_stream_that_cannot_be_opened(server: VoiceServer, stream: str, code: int) -> None:
    server.answer("/twiml", f"<Connect>{stream}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
    assert _codes(phone) == [code]
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER


async def test_stream_tells_its_status_callback(server: VoiceServer) -> None:
    stream = server.stream().replace(
        ">", f' name="main" statusCallback="{server.url}/stream-status">', 1
    )
    server.answer("/twiml", f"<Connect>{stream}</Connect>")
    server.answer("/stream-status", "")
    async with _phone(server) as phone:
        await phone.dial()
        await phone.hang_up()
    callbacks = server.requests_to("/stream-status")
    assert {c.form["StreamEvent"] for c in callbacks} == {"stream-started", "stream-stopped"}
    assert all(c.signed and c.form["StreamName"] == "main" for c in callbacks)


@pytest.mark.parametrize(
    ("document", "kind", "reason"),
    [
        ('<Reject reason="busy"/>', OutcomeKind.REJECTED, "busy"),
        ("<Reject/>", OutcomeKind.REJECTED, "rejected"),
        ("<Hangup/>", OutcomeKind.COMPLETED_BY_SERVER, "<Hangup/>"),
        ("<Pause length='0'/>", OutcomeKind.COMPLETED_BY_SERVER, "end of the document"),
        ("<Dial>+15550001</Dial><Say>never</Say>", OutcomeKind.DIALLED, "+15550001"),
        ("<Redirect>/gone</Redirect>", OutcomeKind.FAILED, "11200"),
        ("<Redirect/>", OutcomeKind.FAILED, "more than 20 documents"),
    ],
)
async def test_call_without_a_stream(
    server: VoiceServer, document: str, kind: OutcomeKind, reason: str
) -> None:
    server.answer("/twiml", document)
    async with _phone(server) as phone:
        await phone.dial()
    assert phone.outcome.kind is kind
    assert phone.outcome.reason.startswith(reason)


async def test_rejected_call_is_reported_busy(server: VoiceServer) -> None:
    server.answer("/twiml", '<Reject reason="busy"/>')
    server.answer("/status", "")
    async with _phone(server, status_callback=f"{server.url}/status") as phone:
        await phone.dial()
    (status,) = server.requests_to("/status")
    assert (status.form["CallStatus"], status.form["CallDuration"]) == ("busy", "0")


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", "{}", 12300),
        ("text/xml", "<Response>", 12100),
        ("text/xml", "<Response>" + " " * 65536, 11750),
    ],
)
async def test_answer_that_is_no_twiml_fails_the_call(
    server: VoiceServer, content_type: str, body: str, code: int
) -> None:
    server.content_type = content_type
    server.documents["/twiml"] = [body]
    async with _phone(server) as phone:
        await phone.dial()
    assert phone.outcome.kind is OutcomeKind.FAILED
    assert _codes(phone) == [code]


async def test_server_that_is_not_there_fails_the_call() -> None:
    async with Phone("http://127.0.0.1:1/twiml") as phone:
        await phone.dial()
    assert str(phone.outcome).startswith("failed: 11205 cannot reach http://127.0.0.1:1/twiml")


async def test_webhook_that_does_not_answer_fails_the_call(
    server: VoiceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulators.twilio_webhooks._ANSWER_S", 0.1)
    server.silent = asyncio.Event()
    server.answer("/twiml", "<Hangup/>")
    async with _phone(server) as phone:
        await phone.dial()
    server.silent.set()
    assert phone.outcome.reason.startswith("11205 no answer")


async def test_server_that_does_not_read_loses_the_callers_audio(
    server: VoiceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulators.twilio_stream._OUTBOX_FRAMES", 0)  # as if it were full already
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await eventually(lambda: phone.recording.duration_ms > 100)
        await phone.hang_up()
    assert _codes(phone) == [31930]
    assert [m["event"] for m in server.sockets[0].messages] == ["connected", "start", "stop"]


async def test_rest_update_stops_the_stream_and_runs_the_new_document(server: VoiceServer) -> None:
    server.answer("/twiml", f'<Connect action="/never">{server.stream()}</Connect>')
    async with _phone(server) as phone:
        await phone.dial()
        await eventually(lambda: server.sockets[0].of("media"))
        await phone.update(document="<Response><Dial>+15550009</Dial></Response>")
        await phone.wait_ended()
    assert server.sockets[0].messages[-1]["event"] == "stop"
    assert (phone.outcome.kind, phone.outcome.reason) == (OutcomeKind.DIALLED, "+15550009")
    assert server.requests_to("/never") == []


async def test_rest_completion_stops_the_stream(server: VoiceServer) -> None:
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        await eventually(lambda: server.sockets[0].of("media"))
        await phone.complete()
    assert server.sockets[0].messages[-1]["event"] == "stop"
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER


async def test_leaving_in_mid_call_hangs_up(server: VoiceServer) -> None:
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    with contextlib.suppress(ZeroDivisionError):
        async with _phone(server) as phone:
            await phone.dial()
            await eventually(lambda: server.sockets[0].of("media"))
            raise ZeroDivisionError
    assert server.sockets[0].messages[-1]["event"] == "stop"
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER


async def test_hanging_up_during_an_announcement_ends_it(server: VoiceServer) -> None:
    server.answer("/twiml", "<Say>This is going to take a very long time to be said.</Say>")
    async with _phone(server) as phone:
        dialling = asyncio.create_task(phone.dial())
        await eventually(lambda: "say" in _kinds(phone))
        await phone.hang_up()
        await dialling
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER


async def test_waiting_in_vain_says_for_what(server: VoiceServer) -> None:
    server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
    async with _phone(server) as phone:
        await phone.dial()
        with pytest.raises(TimeoutError, match=r"waited 0\.1 s in vain for the agent to speak"):
            await phone.wait_agent_speaking(timeout_s=0.1)
