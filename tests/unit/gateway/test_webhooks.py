"""The webhooks, over HTTP and a real broker, with an owner by script."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import FormData

from shared.bus import Bus, provision
from shared.messages import HangUp
from shared.settings import ServiceSettings
from tests.broker import Broker
from tests.unit.gateway.house import (
    ACCOUNT,
    Owner,
    gateway,
    new_call,
    refused,
    stream_url,
    verbs,
)

pytestmark = pytest.mark.e2e

SIGNED: dict[str, Any] = {
    "twilio_auth_token": "0123456789abcdef",
    "public_url": "https://voice.example.com",
}


async def test_a_call_is_offered_and_gets_a_stream(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with gateway(nats_url) as edge:
        document = await edge.twiml(call, From="+15557778888", To="+15551230000", FromCity="")
        assert verbs(document) == ["Connect", "Hangup"]
        assert stream_url(document).startswith(f"{edge.ws_url}/call/")
        connect = document[0]
        assert connect.attrib == {"action": f"{edge.url}/twiml/after", "method": "POST"}
    (offer,) = owner.offers
    assert (offer.call, offer.caller, offer.dialled) == (call, "+15557778888", "+15551230000")
    assert (offer.direction, offer.resume) == ("inbound", False)


async def test_get_works_as_well(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with gateway(nats_url) as edge:
        form = {"CallSid": call, "From": "+1555", "To": "+1666", "Direction": "outbound-api"}
        query = urlencode(form)
        status, text = await edge.get(f"/twiml?{query}")
        assert status == 200
        assert "<Stream" in text
    offer = owner.offers[0]
    # Outbound: the agent is the caller of the two, and its number is the one that chooses it.
    assert (offer.caller, offer.dialled, offer.direction) == ("+1666", "+1555", "outbound")


async def test_a_duplicate_webhook_changes_nothing_and_has_its_own_token(
    nats_url: str, owner: Owner
) -> None:
    call = new_call()
    async with gateway(nats_url) as edge:
        first, second = await asyncio.gather(edge.twiml(call), edge.twiml(call))
        assert verbs(first) == verbs(second) == ["Connect", "Hangup"]
        assert stream_url(first) != stream_url(second)


@pytest.mark.parametrize("code", ["full", "draining"])
async def test_a_full_worker_is_passed_over(nats_url: str, owner: Owner, code: str) -> None:
    owner.to_offers = [refused(code), refused(code)]
    async with gateway(nats_url) as edge:
        assert verbs(await edge.twiml(new_call())) == ["Connect", "Hangup"]
    assert len(owner.offers) == 3


async def test_when_all_are_full_the_line_is_busy(nats_url: str, owner: Owner) -> None:
    owner.to_offers = [refused("full")] * 50
    async with gateway(nats_url) as edge:
        assert verbs(await edge.twiml(new_call())) == ["Say", "Pause", "Redirect"]
    assert len(owner.offers) == 5


async def test_without_workers_the_caller_is_asked_to_hold_and_then_let_go(
    nats_url: str, bus: Bus
) -> None:
    async with gateway(nats_url, busy_retries=2) as edge:
        call, path = new_call(), "/twiml"
        for attempt in (1, 2):
            document = await edge.twiml(call, path)
            assert verbs(document) == ["Say", "Pause", "Redirect"]
            path = f"/twiml?attempt={attempt}"
            assert document[2].text == edge.url + path
        document = await edge.twiml(call, path)
        assert verbs(document) == ["Say", "Hangup"]
        assert (document[0].text or "").startswith("We are sorry")


async def test_a_worker_that_appears_while_the_caller_holds_takes_the_call(
    nats_url: str, owner: Owner
) -> None:
    async with gateway(nats_url) as edge:
        assert verbs(await edge.twiml(new_call(), "/twiml?attempt=2")) == ["Connect", "Hangup"]


@pytest.mark.parametrize(("answer", "said"), [("say", ["Say", "Hangup"]), ("reject", ["Reject"])])
async def test_busy_answers(nats_url: str, bus: Bus, answer: str, said: list[str]) -> None:
    async with gateway(nats_url, busy_answer=answer) as edge:
        assert verbs(await edge.twiml(new_call())) == said


async def test_a_silent_worker_is_asked_twice(nats_url: str, owner: Owner) -> None:
    async with gateway(nats_url, offer_timeout_s=0.2) as edge:
        owner.to_offers = [None]
        assert verbs(await edge.twiml(new_call())) == ["Connect", "Hangup"]
        owner.to_offers = [None, None]
        assert verbs(await edge.twiml(new_call())) == ["Say", "Hangup"]
    assert len(owner.offers) == 4


@pytest.mark.parametrize(
    ("code", "said"),
    [("ended", ["Hangup"]), ("failed", ["Say", "Hangup"]), ("invalid", ["Say", "Hangup"])],
)
async def test_other_refusals(nats_url: str, owner: Owner, code: str, said: list[str]) -> None:
    owner.to_offers = [refused(code)]
    async with gateway(nats_url) as edge:
        assert verbs(await edge.twiml(new_call())) == said


# --- who may ask ---------------------------------------------------------------------------------


async def test_signed_webhooks_are_taken(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with gateway(nats_url, **SIGNED) as edge:
        document = await edge.twiml(call, From="+1555", FromCity="", CallerName="Zoë Ünal")
        assert stream_url(document).startswith("wss://voice.example.com/call/")
        status, text = await edge.get(f"/twiml?CallSid={call}&From=%2B1555&FromCity=")
        assert (status, "<Stream" in text) == (200, True)


@pytest.mark.parametrize("path", ["/twiml", "/twiml/after", "/twiml/dial-result", "/twilio/status"])
async def test_unsigned_or_changed_webhooks_are_refused(
    nats_url: str, owner: Owner, path: str
) -> None:
    params = {"CallSid": new_call(), "From": "+1555", "FromCity": "", "CallStatus": "completed"}
    async with gateway(nats_url, **SIGNED) as edge:
        good = edge.sign(edge.settings.origin + path, params)
        for headers, data in (
            ({}, params),
            (good, params | {"From": "+1666"}),
            (good, {name: value for name, value in params.items() if value}),  # blank dropped
            ({"X-Twilio-Signature": "x"}, params),
            (edge.sign(edge.url + path, params), params),  # our inner address instead of PUBLIC_URL
        ):
            async with edge.http.post(edge.url + path, data=data, headers=headers) as answer:
                assert answer.status == 403
        async with edge.http.get(f"{edge.url}{path}?{urlencode(params)}", headers=good) as answer:
            assert answer.status == 403
    assert owner.offers == []
    assert owner.commands == []


@pytest.mark.parametrize(
    "call", ["", "CA1", "*", ">", "CA" + "A" * 32, "CA" + "0" * 31 + ".", "CA" + "0" * 32 + "\n"]
)
@pytest.mark.parametrize("path", ["/twiml", "/twiml/after", "/twiml/dial-result"])
async def test_what_is_no_call_id_is_refused(
    nats_url: str, owner: Owner, path: str, call: str
) -> None:
    async with gateway(nats_url) as edge:
        status, text = await edge.post(path, CallSid=call)
        assert (status, "CallSid" in text) == (400, True)
    assert owner.offers == []


async def test_hostile_bodies_are_refused(nats_url: str, owner: Owner) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with gateway(nats_url) as edge:
        for body, headers, status in (
            (b"CallSid=" + b"x" * 100_000, form, 413),
            (b"a=1&" * 10_000, form, 400),
            (b"\xff\xfe", form, 400),
            (b"CallSid=%FF%FE", form, 400),
            (b"CallSid=x", {"Content-Type": "text/plain; charset=nonsense"}, 400),
            (b"", form, 400),
        ):
            async with edge.http.post(edge.url + "/twiml", data=body, headers=headers) as answer:
                assert answer.status == status, body[:20]
        multipart = FormData({"CallSid": new_call()}, default_to_multipart=True)
        async with edge.http.post(edge.url + "/twiml", data=multipart) as answer:
            assert answer.status == 400
        for path in ("/twiml", "/twiml/after", "/twiml/dial-result", "/twilio/status"):
            async with edge.http.head(edge.url + path) as answer:
                assert answer.status == 405
    assert owner.offers == []


async def test_answers_are_xml_and_not_cached(nats_url: str, owner: Owner) -> None:
    async with gateway(nats_url) as edge:
        data = {"CallSid": new_call()}
        async with edge.http.post(edge.url + "/twiml", data=data) as answer:
            assert answer.content_type == "text/xml"
            assert answer.headers["Cache-Control"] == "no-store"


# --- after a stream ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "status", "said"),
    [
        ({"state": "live"}, "in-progress", ["Connect", "Hangup"]),
        ({"state": "live"}, None, ["Connect", "Hangup"]),
        ({"state": "offered", "leg": 0}, "in-progress", ["Connect", "Hangup"]),
        ({"state": "live", "leg": 4}, "in-progress", ["Connect", "Hangup"]),
        ({"state": "live", "leg": 50}, "in-progress", ["Connect", "Hangup"]),  # moved on purpose
        ({"state": "live"}, "completed", ["Hangup"]),
        ({"state": "ended", "reason": "caller_hung_up"}, "in-progress", ["Hangup"]),
        ({"state": "ended", "reason": "model_unavailable"}, "in-progress", ["Say", "Hangup"]),
        ({"state": "ended", "reason": "failed"}, "in-progress", ["Say", "Hangup"]),
        ({"state": "ended", "reason": "worker_lost"}, "in-progress", ["Say", "Hangup"]),
        ({"state": "ended"}, "in-progress", ["Hangup"]),
    ],
)
async def test_the_record_decides_what_is_next(
    nats_url: str, owner: Owner, record: dict[str, object], status: str | None, said: list[str]
) -> None:
    call = new_call()
    await owner.write(call, **record)
    async with gateway(nats_url) as edge:
        params = {"CallStatus": status} if status else {}
        assert verbs(await edge.twiml(call, "/twiml/after", **params)) == said


async def test_a_call_that_nobody_owned_is_hung_up(nats_url: str, owner: Owner) -> None:
    async with gateway(nats_url) as edge:
        assert verbs(await edge.twiml(new_call(), "/twiml/after")) == ["Hangup"]


async def test_a_stream_that_never_attaches_is_not_opened_for_ever(
    nats_url: str, owner: Owner
) -> None:
    """A record that says `live` and an owner that is dead: the answers are counted in the URL."""
    call = new_call()
    await owner.write(call, leg=0)
    async with gateway(nats_url, max_legs=3) as edge:
        path, said = "/twiml/after", []
        while (document := await edge.twiml(call, path))[0].tag == "Connect":
            path = document[0].attrib["action"].removeprefix(edge.url)
            said.append(path)
        assert said == ["/twiml/after?leg=2", "/twiml/after?leg=3"]
        assert verbs(document) == ["Say", "Hangup"]


# --- after a transfer ----------------------------------------------------------------------------

RESULT = "/twiml/dial-result"


@pytest.mark.parametrize("result", ["completed", "answered"])
@pytest.mark.parametrize("status", ["in-progress", "completed"])
async def test_when_they_have_talked_the_call_is_over(
    nats_url: str, owner: Owner, result: str, status: str
) -> None:
    call = new_call()
    await owner.write(call)
    async with gateway(nats_url, **SIGNED) as edge:
        params = {"DialCallStatus": result, "CallStatus": status, "DialCallDuration": "12"}
        assert verbs(await edge.twiml(call, RESULT, **params)) == ["Hangup"]
        assert owner.commands == [HangUp(reason="transferred")]
        await owner.die()  # a second request, say
        assert verbs(await edge.twiml(call, RESULT, **params)) == ["Hangup"]


@pytest.mark.parametrize(
    ("result", "note"),
    [
        ("busy", "dial:busy"),
        ("no-answer", "dial:no-answer"),
        ("failed", "dial:failed"),
        ("canceled", "dial:canceled"),
        ("", "dial:unknown"),
        ("<b>", "dial:unknown"),
    ],
)
async def test_who_reached_nobody_is_put_back_to_the_agent(
    nats_url: str, owner: Owner, result: str, note: str
) -> None:
    call = new_call()
    await owner.write(call, leg=30)
    async with gateway(nats_url, **SIGNED) as edge:
        params = {"DialCallStatus": result, "CallStatus": "in-progress"}
        document = await edge.twiml(call, RESULT, **params)
        assert verbs(document) == ["Connect", "Hangup"]
        assert stream_url(document).startswith("wss://voice.example.com/call/")
        assert document[0].attrib["action"] == "https://voice.example.com/twiml/after"
        parameter = document.find("Connect/Stream/Parameter")
        assert parameter is not None
        assert parameter.attrib == {"name": "note", "value": note}
    assert owner.commands == []


@pytest.mark.parametrize("status", ["completed", "canceled"])
async def test_who_gave_up_while_it_rang_is_gone(nats_url: str, owner: Owner, status: str) -> None:
    call = new_call()
    await owner.write(call)
    async with gateway(nats_url) as edge:
        params = {"DialCallStatus": "canceled", "CallStatus": status}
        assert verbs(await edge.twiml(call, RESULT, **params)) == ["Hangup"]
    assert owner.commands == [HangUp(reason=f"phone_{status}")]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"state": "ended", "reason": "transferred"}, ["Hangup"]),
        ({"state": "ended", "reason": "failed"}, ["Say", "Hangup"]),
        (None, ["Hangup"]),
    ],
)
async def test_without_an_agent_nobody_is_put_back(
    nats_url: str, owner: Owner, record: dict[str, str] | None, said: list[str]
) -> None:
    call = new_call()
    if record is not None:
        await owner.write(call, **record)
    async with gateway(nats_url) as edge:
        params = {"DialCallStatus": "busy", "CallStatus": "in-progress"}
        assert verbs(await edge.twiml(call, RESULT, **params)) == said


# --- status callbacks ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "busy", "failed", "no-answer", "canceled"])
async def test_the_end_of_a_call_is_told_to_its_owner(
    nats_url: str, owner: Owner, status: str
) -> None:
    async with gateway(nats_url) as edge:
        answered, text = await edge.post("/twilio/status", CallSid=new_call(), CallStatus=status)
        assert (answered, text) == (204, "")
    assert owner.commands == [HangUp(reason=f"phone_{status}")]


async def test_other_states_and_repetitions_are_harmless(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with gateway(nats_url) as edge:
        for status in ("completed", "ringing", "in-progress", "completed", "initiated", "", "x y"):
            assert (await edge.post("/twilio/status", CallSid=call, CallStatus=status))[0] == 204
        assert (await edge.post("/twilio/status", CallSid="*", CallStatus="completed"))[0] == 204
        await owner.die()
        assert (await edge.post("/twilio/status", CallSid=call, CallStatus="completed"))[0] == 204
    assert len(owner.commands) == 2


# --- itself --------------------------------------------------------------------------------------


async def test_pages_about_itself(nats_url: str, bus: Bus) -> None:
    async with gateway(nats_url, public_url="https://voice.example.com/") as edge:
        assert await edge.get("/public-url") == (200, '{"publicUrl": "https://voice.example.com"}')
        assert (await edge.get("/readyz"))[0] == 200
        status, metrics = await edge.get("/metrics")
        assert status == 200
        assert "switchboard_gateway_streams " in metrics


async def test_when_nats_is_away_callers_hear_a_word(own_broker: Broker) -> None:
    settings = ServiceSettings(nats_url=own_broker.url, _env_file=None)
    helper = await Bus.connect(settings, "test", name="test")
    await provision(helper, settings)
    await helper.close()
    async with gateway(own_broker.url, offer_timeout_s=0.2) as edge:
        own_broker.stop()
        assert verbs(await edge.twiml(new_call())) == ["Say", "Hangup"]
        assert verbs(await edge.twiml(new_call(), "/twiml/after")) == ["Say", "Hangup"]
        params = {"CallSid": new_call(), "CallStatus": "completed", "AccountSid": ACCOUNT}
        assert (await edge.post("/twilio/status", **params))[0] == 204
        status, text = await edge.get("/readyz")
        assert (status, "NATS is not connected" in text) == (503, True)
