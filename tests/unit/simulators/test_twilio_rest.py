"""The REST API behind the simulated phone, and what its calls do when they are dialled on."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from simulators.phone import Event, OtherParty, OutcomeKind, Phone
from simulators.twilio_dial import DialResult
from simulators.twilio_rest import Fault, TwilioRest
from tests.helpers import eventually
from tests.unit.simulators.voice_server import TOKEN, VoiceServer, voice_server

pytestmark = pytest.mark.unit

ACCOUNT = "AC" + "a" * 32
KEY = "SK" + "b" * 32
HUMAN = "+15550001111"


@pytest.fixture
async def server() -> AsyncIterator[VoiceServer]:
    async with voice_server() as server:
        server.answer("/twiml", f'<Connect action="/never">{server.stream()}</Connect>')
        yield server


@pytest.fixture
async def rest() -> AsyncIterator[TwilioRest]:
    async with TwilioRest(ACCOUNT, TOKEN, api_keys={KEY: "key's secret"}) as rest:
        yield rest


@pytest.fixture
async def phone(server: VoiceServer, rest: TwilioRest) -> AsyncIterator[Phone]:
    """A caller who talks with an agent."""
    options: dict[str, Any] = {"auth_token": TOKEN, "account_sid": ACCOUNT}
    async with Phone(f"{server.url}/twiml", **options) as phone:
        rest.register(phone)
        await phone.dial()
        await eventually(lambda: server.sockets and server.sockets[0].of("media"))
        yield phone


async def ask(
    rest: TwilioRest,
    phone: Phone | str,
    *,
    login: tuple[str, str] | None = (ACCOUNT, TOKEN),
    method: str = "POST",
    account: str = ACCOUNT,
    **form: str,
) -> tuple[int, Any]:
    sid = phone if isinstance(phone, str) else phone.identity.call_sid
    url = f"{rest.url}/2010-04-01/Accounts/{account}/Calls/{sid}.json"
    headers = {}
    if login is not None:
        secret = base64.b64encode(":".join(login).encode()).decode()
        headers["Authorization"] = f"Basic {secret}"
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, data=form or None, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_call_gets_new_twiml(rest: TwilioRest, phone: Phone, server: VoiceServer) -> None:
    status, call = await ask(rest, phone, Twiml="<Response><Hangup/></Response>")
    assert (status, call["sid"]) == (200, phone.identity.call_sid)
    await phone.wait_ended()
    assert server.sockets[0].messages[-1]["event"] == "stop"
    assert server.requests_to("/never") == []
    assert phone.outcome.reason == "<Hangup/>"


async def test_a_call_is_sent_to_a_url(rest: TwilioRest, phone: Phone, server: VoiceServer) -> None:
    server.answer("/next", "<Hangup/>")
    assert (await ask(rest, phone, Url=f"{server.url}/next", Twiml="<ignored/>"))[0] == 200
    await phone.wait_ended()
    assert server.requests_to("/next")[0].signed


async def test_a_call_is_completed(rest: TwilioRest, phone: Phone) -> None:
    assert (await ask(rest, phone, login=(KEY, "key's secret"), Status="completed"))[0] == 200
    await phone.wait_ended()
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER
    status, call = await ask(rest, phone, method="GET")
    assert (status, call["status"]) == (200, "completed")
    status, error = await ask(rest, phone, Status="completed")
    assert (status, error["code"]) == (400, 21220)


async def test_the_answer_does_not_wait_for_the_stop(rest: TwilioRest, phone: Phone) -> None:
    rest.hold = asyncio.Event()
    asking = asyncio.create_task(ask(rest, phone, Status="completed"))
    await phone.wait_ended()
    assert not asking.done()
    rest.hold.set()
    assert (await asking)[0] == 200


@pytest.mark.parametrize("login", [None, (ACCOUNT, "wrong"), ("AC0", TOKEN), (KEY, TOKEN)])
async def test_who_is_not_known_is_refused(
    rest: TwilioRest, phone: Phone, login: tuple[str, str] | None
) -> None:
    status, error = await ask(rest, phone, login=login, Status="completed")
    assert (status, error["code"], error["status"]) == (401, 20003, 401)
    assert not phone.over


async def test_what_is_not_there_is_not_found(rest: TwilioRest, phone: Phone) -> None:
    for call, account in (("CA0", ACCOUNT), (phone.identity.call_sid, "AC" + "c" * 32)):
        status, error = await ask(rest, call, account=account, Status="completed")
        assert (status, error["code"]) == (404, 20404)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Twiml": "x" * 4001}, 32018),
        ({"Url": "ftp://a.example/"}, 21205),
        ({"Status": "ended"}, 20001),
        ({"Status": "canceled"}, 21220),
        ({"Colour": "red"}, 20001),
    ],
)
async def test_bad_parameters_are_refused(
    rest: TwilioRest, phone: Phone, form: dict[str, Any], code: int
) -> None:
    status, error = await ask(rest, phone, **form)
    assert (status, error["code"]) == (400, code)
    assert not phone.over


async def test_faults_come_instead_of_an_update(rest: TwilioRest, phone: Phone) -> None:
    rest.faults = [Fault(429, 20429)]
    status, error = await ask(rest, phone, Status="completed")
    assert (status, error["code"]) == (429, 20429)
    assert not phone.over
    assert (await ask(rest, phone, Status="completed"))[0] == 200


# --- <Dial> --------------------------------------------------------------------------------------


def _dial(action: str = "", timeout: int = 25) -> str:
    attributes = f'timeout="{timeout}"' + (f' action="{action}"' if action else "")
    return f"<Dial {attributes}><Number>{HUMAN}</Number></Dial>"


async def dialled(server: VoiceServer, party: OtherParty | DialResult) -> Phone:
    phone = Phone(f"{server.url}/twiml", auth_token=TOKEN, dial_results={HUMAN: party})
    async with phone:
        await phone.dial()
        await phone.wait_ended()
    return phone


def kinds(phone: Phone) -> list[str]:
    return [event.kind for event in phone.events]


async def test_the_other_party_is_heard_and_hangs_up(server: VoiceServer) -> None:
    server.answer("/twiml", _dial("/result"))
    server.answer("/result", "<Hangup/>")
    phone = await dialled(server, OtherParty(ring_s=0.2, says="Hello there.", talk_s=0.1))
    result = server.requests_to("/result")[0]
    assert result.signed
    assert result.form["DialCallStatus"] == "completed"
    assert result.form["CallStatus"] == "in-progress"
    assert result.form["DialCallSid"].startswith("CA")
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER
    answered = next(event for event in phone.events if event.kind == "dial_answered")
    # Somebody is heard after the answer, and it is not the agent.
    assert phone.recording.segments("heard")[0][0] >= answered.ms - 20
    assert phone.recording.segments("agent") == []


@pytest.mark.parametrize("result", ["busy", "no-answer", "failed", "canceled"])
async def test_who_is_not_reached_is_not_heard(server: VoiceServer, result: DialResult) -> None:
    server.answer("/twiml", _dial("/result"))
    server.answer("/result", "<Hangup/>")
    phone = await dialled(server, OtherParty(result, ring_s=0))
    form = server.requests_to("/result")[0].form
    assert (form["DialCallStatus"], form["DialCallDuration"]) == (result, "0")
    assert "dial_answered" not in kinds(phone)


async def test_it_does_not_ring_for_ever(server: VoiceServer) -> None:
    server.answer("/twiml", _dial("/result", timeout=0))
    server.answer("/result", "<Hangup/>")
    await dialled(server, OtherParty(ring_s=1000))
    assert server.requests_to("/result")[0].form["DialCallStatus"] == "no-answer"


async def test_without_an_action_the_document_goes_on(server: VoiceServer) -> None:
    server.answer("/twiml", f"{_dial()}<Say>Goodbye.</Say>")
    phone = await dialled(server, OtherParty("busy", ring_s=0))
    assert phone.heard_say == ["Goodbye."]


async def test_the_caller_may_hang_up_while_it_rings(server: VoiceServer) -> None:
    server.answer("/twiml", _dial("/result"))
    ringing = asyncio.Event()

    def on_event(event: Event) -> None:
        if event.kind == "dial":
            ringing.set()

    phone = Phone(
        f"{server.url}/twiml",
        dial_results={HUMAN: OtherParty(ring_s=20)},
        on_event=on_event,
    )
    async with phone:
        dialling = asyncio.create_task(phone.dial())
        await ringing.wait()
        await phone.hang_up()
        await dialling
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER
    assert server.requests_to("/result") == []


async def test_keys_are_an_event(server: VoiceServer) -> None:
    server.answer("/twiml", '<Play digits="1w2#"/><Hangup/>')
    async with Phone(f"{server.url}/twiml") as phone:
        await phone.dial()
    played, ended = (next(e for e in phone.events if e.kind == k) for k in ("play_digits", "ended"))
    assert played.detail == "1w2#"
    assert ended.ms - played.ms >= 480  # w waits half a second
