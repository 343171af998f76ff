"""The agent hands the caller over, or presses keys: through Twilio's REST API, and back."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from simulators.openai_realtime import Script
from simulators.phone import OutcomeKind, Phone
from simulators.twilio_dial import DialResult, OtherParty
from simulators.twilio_rest import TwilioRest
from tests.e2e.conftest import ACCOUNT, TWILIO_TOKEN, House, HouseOf
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

DESK = "+15550001111"


def script(*calls: object) -> dict[str, Script]:
    return {
        "desk": Script.model_validate(
            {
                "name": "desk",
                "greeting": {"say": "Hello, this is the clinic."},
                "turns": [
                    {"hear": "A person, please.", "say": "I connect you now.", "call": calls},
                ],
                "otherwise": {"hear": "Hm.", "say": "Nobody is there. Can I help you instead?"},
            }
        )
    }


@contextlib.asynccontextmanager
async def desk(
    build: HouseOf, call: object, **answer: object
) -> AsyncIterator[tuple[House, Phone]]:
    """A call that has been greeted, with a REST API that reaches its phone."""
    async with TwilioRest(ACCOUNT, TWILIO_TOKEN) as rest:
        house = await build(scripts=script(call), env={"TWILIO_API_URL": rest.url})
        await house.agent(
            id="default",
            model="desk",
            skills=["end_call", "transfer_call", "send_dtmf"],
            transfer_to={"front desk": DESK},
        )
        async with house.phone(**answer) as phone:
            rest.register(phone)
            await phone.dial()
            await phone.wait_agent_turn()
            yield house, phone


TRANSFER = {"name": "transfer_call", "arguments": {"to": "front desk"}}


async def test_a_caller_is_connected_and_the_call_ends_when_they_have_talked(
    build: HouseOf,
) -> None:
    async with desk(build, TRANSFER, dial_results={DESK: OtherParty(talk_s=2)}) as (house, phone):
        await phone.say("A person, please.")
        await phone.wait_ended(timeout_s=40)
        ended = await house.ended(phone)
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER
    assert ended.reason == "transferred"
    (started,) = house.told(phone, "transfer_started")
    assert started.to == "front desk"  # type: ignore[attr-defined]
    # The agent's last words were heard before the line was taken from it.
    assert phone.clears == []
    await eventually(lambda: house.model.connections[-1].closed)


@pytest.mark.parametrize("result", ["busy", "no-answer"])
async def test_a_transfer_that_fails_brings_the_caller_back_to_the_agent(
    build: HouseOf, result: DialResult
) -> None:
    async with desk(build, TRANSFER, dial_results={DESK: result}) as (house, phone):
        await phone.say("A person, please.")
        await eventually(lambda: house.told(phone, "transfer_failed"), 40)
        await eventually(lambda: house.told(phone, "leg_replaced"), 20)
        await phone.wait_agent_turn(timeout_s=40)
        await phone.hang_up()
        ended = await house.ended(phone)
    (failed,) = house.told(phone, "transfer_failed")
    assert failed.code == result  # type: ignore[attr-defined]
    assert ended.reason == "caller_hung_up"
    assert len(phone.streams) == 2
    said = [line.text for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert said.count("Hello, this is the clinic.") == 1


async def test_keys_are_pressed_and_the_talk_goes_on(build: HouseOf) -> None:
    digits = {"name": "send_dtmf", "arguments": {"digits": "1w2#"}}
    async with desk(build, digits) as (house, phone):
        await phone.say("A person, please.")
        await eventually(lambda: house.told(phone, "digits_sent"), 30)
        await eventually(lambda: house.told(phone, "leg_replaced"), 30)
        await phone.say("Hm.")
        await phone.wait_agent_turn(timeout_s=40)
        await phone.hang_up()
        ended = await house.ended(phone)
    assert ended.reason == "caller_hung_up"
    assert len(phone.streams) == 2
