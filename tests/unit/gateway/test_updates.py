"""Transfers and keys: asked for by the owner, done by REST, with a simulated phone at the end.

The phone rings those whom it is told to dial, asks our webhooks for what is next, and is brought
back by them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.gateway.terms import Limits
from shared.messages import (
    AttachLeg,
    HangUp,
    LegStopped,
    Mark,
    PhoneUpdated,
    SendDigits,
    TransferLeg as Transfer,
)
from simulators.phone import OtherParty, OutcomeKind, Phone
from simulators.twilio_dial import DialResult
from simulators.twilio_rest import Fault, TwilioRest
from tests.helpers import eventually
from tests.unit.gateway.house import ACCOUNT, Gateway, Owner, gateway, metric

pytestmark = pytest.mark.e2e

TOKEN = "0123456789abcdef0123456789abcdef"
DESK = "+15550001111"
QUICK = OtherParty(ring_s=0.1, says="Hello.", talk_s=0.1)


class Call:
    """A phone in a call, and all that is around it."""

    def __init__(self, edge: Gateway, owner: Owner, rest: TwilioRest, phone: Phone) -> None:
        self.edge, self.owner, self.rest, self.phone = edge, owner, rest, phone
        self.id = phone.identity.call_sid

    @property
    def updates(self) -> list[PhoneUpdated]:
        return [what for _, what in self.owner.heard if isinstance(what, PhoneUpdated)]

    async def answer(self) -> PhoneUpdated:
        await eventually(lambda: self.updates)
        return self.updates[0]

    async def still_carried(self) -> None:
        """The stream goes on as if nothing had happened."""
        self.owner.say(self.id, Mark(name="still here"))
        await eventually(lambda: [mark.name for mark in self.phone.marks] == ["still here"])
        assert len(self.phone.streams) == 1


@contextlib.asynccontextmanager
async def calling(
    nats_url: str,
    owner: Owner,
    *,
    dial_results: dict[str, OtherParty | DialResult] | None = None,
    limits: Limits | None = None,
    **fields: Any,
) -> AsyncIterator[Call]:
    async with TwilioRest(ACCOUNT, TOKEN) as rest:
        fields = {"twilio_account_sid": ACCOUNT, "twilio_auth_token": TOKEN} | fields
        fields["twilio_api_url"] = rest.url
        async with gateway(nats_url, limits=limits, **fields) as edge:
            phone = Phone(
                f"{edge.url}/twiml",
                auth_token=TOKEN,
                account_sid=ACCOUNT,
                dial_results=dial_results,
            )
            async with phone:
                rest.register(phone)
                await phone.dial()
                await eventually(lambda: owner.control() == ["started"])
                await owner.write(phone.identity.call_sid)
                yield Call(edge, owner, rest, phone)


# --- transfers -----------------------------------------------------------------------------------


async def test_a_caller_is_connected_until_the_other_party_hangs_up(
    nats_url: str, owner: Owner
) -> None:
    before = metric("call_updates_total", what="transfer", code="ok")
    async with calling(nats_url, owner, dial_results={DESK: QUICK}) as call:
        owner.say(call.id, Transfer(to=DESK))
        await call.phone.wait_ended()
        await eventually(lambda: "stopped" in owner.control())
        # The owner knows why the stream stops before it stops.
        said = [what for _, what in owner.heard if isinstance(what, PhoneUpdated | LegStopped)]
        assert said == [PhoneUpdated(what="transfer", ok=True), LegStopped()]
        assert owner.commands[-1] == HangUp(reason="transferred")
        assert call.phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER
        assert call.phone.warnings == []
        assert len(call.phone.streams) == 1
    assert metric("call_updates_total", what="transfer", code="ok") == before + 1


@pytest.mark.parametrize("result", ["busy", "no-answer", "failed", "canceled"])
async def test_a_caller_who_reaches_nobody_is_back_with_the_agent(
    nats_url: str, owner: Owner, result: DialResult
) -> None:
    party = OtherParty(result, ring_s=0.1)
    async with calling(nats_url, owner, dial_results={DESK: party}) as call:
        owner.say(call.id, Transfer(to=DESK))
        await eventually(lambda: owner.control(leg=2) == ["started"])
        assert len(call.phone.streams) == 2
        legs = [command for command in owner.commands if isinstance(command, AttachLeg)]
        assert [leg.note for leg in legs] == ["", f"dial:{result}"]
        assert owner.control(leg=1) == ["started", "updated", "stopped"]
        owner.say(call.id, Mark(name="back"))
        await eventually(lambda: owner.control(leg=2) == ["started", "mark"])
        assert call.phone.warnings == []


async def test_a_sip_address_is_dialled_as_such(nats_url: str, owner: Owner) -> None:
    desk = "sip:desk@pbx.example.com;transport=tls"
    async with calling(nats_url, owner, dial_results={desk: QUICK}) as call:
        owner.say(call.id, Transfer(to=desk))
        await call.phone.wait_ended()
        assert "dial_answered" in [event.kind for event in call.phone.events]
        assert f"<Sip>{desk}</Sip>" in call.rest.requests[0].form["Twiml"]


@pytest.mark.parametrize("to", ["client:bob", "911", "+1 555", "", "sip:", "front desk"])
async def test_nobody_else_is_dialled(nats_url: str, owner: Owner, to: str) -> None:
    async with calling(nats_url, owner) as call:
        owner.say(call.id, Transfer(to=to))
        answer = await call.answer()
        assert (answer.what, answer.ok, answer.code) == ("transfer", False, "invalid")
        await call.still_carried()
        assert call.rest.requests == []


async def test_without_credentials_the_leg_stays_as_it_is(nats_url: str, owner: Owner) -> None:
    async with calling(nats_url, owner, twilio_account_sid=None) as call:
        owner.say(call.id, Transfer(to=DESK))
        answer = await call.answer()
        assert (answer.ok, answer.code) == (False, "no_credentials")
        assert "TWILIO_ACCOUNT_SID" in answer.message
        await call.still_carried()


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault(404, 20404), "call_gone"), (Fault(401, 20003), "20003"), (Fault(503), "http_503")],
)
async def test_a_refused_transfer_leaves_the_leg_as_it_is(
    nats_url: str, owner: Owner, fault: Fault, code: str
) -> None:
    async with calling(nats_url, owner) as call:
        call.rest.faults = [fault]
        owner.say(call.id, Transfer(to=DESK))
        answer = await call.answer()
        assert (answer.ok, answer.code) == (False, code)
        await call.still_carried()


async def test_a_stop_that_comes_first_is_told_last(nats_url: str, owner: Owner) -> None:
    async with calling(nats_url, owner, dial_results={DESK: QUICK}) as call:
        call.rest.hold = asyncio.Event()  # Twilio is slow to answer, and quick to act
        owner.say(call.id, Transfer(to=DESK))
        await eventually(lambda: "stream_closed" in [e.kind for e in call.phone.events])
        assert owner.control() == ["started"]
        call.rest.hold.set()
        await eventually(lambda: owner.control() == ["started", "updated", "stopped"])
        assert call.updates[0].ok


async def test_an_answer_that_never_comes_does_not_keep_the_stream(
    nats_url: str, owner: Owner
) -> None:
    limits = Limits(update_s=0.1)
    async with calling(nats_url, owner, dial_results={DESK: QUICK}, limits=limits) as call:
        call.rest.hold = asyncio.Event()
        owner.say(call.id, Transfer(to=DESK))
        await eventually(lambda: owner.control() == ["started", "updated", "stopped"])
        assert (call.updates[0].ok, call.updates[0].code) == (False, "timeout")
        call.rest.hold.set()


async def test_one_change_at_a_time(nats_url: str, owner: Owner) -> None:
    async with calling(nats_url, owner, dial_results={DESK: QUICK}) as call:
        call.rest.hold = asyncio.Event()
        owner.say(call.id, Transfer(to=DESK), SendDigits(digits="1"))
        answer = await call.answer()
        assert (answer.what, answer.ok, answer.code) == ("digits", False, "busy")
        call.rest.hold.set()
        await eventually(lambda: len(call.updates) == 2)
        assert (call.updates[1].what, call.updates[1].ok) == ("transfer", True)
        assert len(call.rest.requests) == 1


async def test_numbers_and_secrets_are_not_logged(
    nats_url: str, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="services.gateway")
    async with calling(nats_url, owner, dial_results={DESK: "busy"}) as call:
        call.rest.faults = [Fault(400, 21211, f"{DESK} is not valid")]
        owner.say(call.id, Transfer(to=DESK))
        await call.answer()
        owner.say(call.id, Transfer(to=DESK))
        await eventually(lambda: owner.control(leg=2) == ["started"])
    assert any(record.getMessage() == "Twilio changes the call" for record in caplog.records)
    for record in caplog.records:
        public = {k: v for k, v in vars(record).items() if not k.startswith("private_")}
        assert DESK not in str(public)
        assert TOKEN not in str(public)


# --- keys ----------------------------------------------------------------------------------------


async def test_keys_are_pressed_and_the_stream_is_opened_again(nats_url: str, owner: Owner) -> None:
    async with calling(nats_url, owner) as call:
        owner.say(call.id, SendDigits(digits="1w2#"))
        await eventually(lambda: owner.control(leg=2) == ["started"])
        pressed = [event.detail for event in call.phone.events if event.kind == "play_digits"]
        assert pressed == ["1w2#"]
        assert call.updates == [PhoneUpdated(what="digits", ok=True)]
        assert owner.control(leg=1) == ["started", "updated", "stopped"]
        assert len(call.phone.streams) == 2
        assert call.phone.warnings == []


async def test_keys_may_be_pressed_more_often_than_a_socket_may_be_lost(
    nats_url: str, owner: Owner
) -> None:
    async with calling(nats_url, owner, max_legs=2) as call:
        for leg in (2, 3, 4):
            owner.say(call.id, SendDigits(digits="1"))
            await eventually(lambda leg=leg: owner.control(leg) == ["started"])  # type: ignore[misc]
        await owner.write(call.id, leg=4)
        await call.phone.abort_stream()
        await eventually(lambda: owner.control(leg=5) == ["started"])
