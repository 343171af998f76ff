"""Tools in a call: the model asks, a service answers, the caller hears it, whatever goes wrong."""

import json

import pytest

from simulators.openai_realtime import Script
from simulators.phone import OutcomeKind
from tests.e2e.conftest import HouseOf
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

GREETING = {"say": "Hello, this is the clinic."}


def script(call: object, then: object, **turn: object) -> dict[str, Script]:
    """A model that calls once, on the caller's first turn."""
    return {
        "clinic": Script.model_validate(
            {
                "name": "clinic",
                "greeting": GREETING,
                "turns": [{"hear": "Please look it up.", "call": call, "then": then, **turn}],
            }
        )
    }


async def test_a_tool_answers_and_the_caller_hears_the_answer(build: HouseOf) -> None:
    calls = [{"name": "get_weather", "arguments": {"location": "Lisbon"}}]
    house = await build(
        scripts=script(calls, {"say": "It is {temp} degrees now."}),
        tools=True,
        weather_delay_ms=0,
    )
    await house.agent(id="default", model="clinic")
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("Please look it up.")
        await phone.wait_agent_turn()
        await phone.hang_up()
        await house.ended(phone)
    model = house.model.connections[-1]
    offered = [tool["name"] for tool in model.config["tools"]]
    assert sorted(set(offered)) == sorted(offered)  # a tool is listed once
    assert {"get_weather", "get_weather_from_coords", "fetch_prescription_status"} <= set(offered)
    (answered,) = house.told(phone, "tool_answered")
    output = json.loads(answered.output)  # type: ignore[attr-defined]
    assert isinstance(output["temp"], int | float)  # JSON, and not JSON inside a string
    said = [line.text for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert said[-1] == f"It is {output['temp']} degrees now."
    # A tool that is quick makes no sound of its own.
    assert house.told(phone, "hold_started") == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"name": "no_such_tool"}, "unknown_tool"),
        ({"name": "get_weather", "arguments": '{"location": '}, "invalid_json"),
        ({"name": "get_weather", "arguments": {"place": "Oslo"}}, "invalid_arguments"),
    ],
)
async def test_a_call_that_cannot_work_is_answered_with_an_error_the_model_can_speak(
    build: HouseOf, call: dict[str, object], error: str
) -> None:
    house = await build(
        scripts=script([call], {"say": "It worked.", "on_error": "I am sorry, no."}),
        tools=True,
        weather_delay_ms=0,
    )
    await house.agent(id="default", model="clinic")
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("Please look it up.")
        await phone.wait_agent_turn()
        await phone.hang_up()
        await house.ended(phone)
    (answered,) = house.told(phone, "tool_answered")
    assert answered.error == error  # type: ignore[attr-defined]
    said = [line.text for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert said[-1] == "I am sorry, no."
    assert house.told(phone, "hold_started") == []


async def test_a_prescription_is_told_to_the_number_that_is_known_and_to_no_other(
    build: HouseOf,
) -> None:
    """The number comes from the network, through the session: the model cannot claim one."""
    call = {"name": "fetch_prescription_status", "arguments": {"patient_name": "Rosie"}}
    house = await build(scripts=script([call], {"say": "That is all."}), tools=True)
    await house.agent(id="default", model="clinic")
    async with house.phone(from_="+15550009999") as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("Please look it up.")
        await eventually(lambda: house.told(phone, "tool_answered"), 20)
        await phone.hang_up()
    (answered,) = house.told(phone, "tool_answered")
    output = answered.output  # type: ignore[attr-defined]
    assert "Simparica" not in output
    assert "Greenberg" not in output


async def test_tools_that_die_in_mid_call_are_reported_and_the_call_goes_on(
    build: HouseOf,
) -> None:
    calls = [{"name": "get_weather", "arguments": {"location": "Lisbon"}}]
    house = await build(
        scripts=script(calls, {"say": "It worked.", "on_error": "I am sorry, no."}),
        tools=True,
        weather_delay_ms=0,
    )
    await house.agent(id="default", model="clinic")
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        house.stack.child("tools").kill()
        await phone.say("Please look it up.")
        await phone.wait_agent_turn()
        await phone.hang_up()
    (answered,) = house.told(phone, "tool_answered")
    assert answered.error == "unavailable"  # type: ignore[attr-defined]
    said = [line.text for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert said[-1] == "I am sorry, no."


async def test_the_agent_ends_the_call_when_its_goodbye_was_heard(build: HouseOf) -> None:
    goodbye = "Thank you very much for your call, goodbye, and have a nice day!"
    house = await build(scripts=script([{"name": "end_call"}], None, say=goodbye))
    await house.agent(id="default", model="clinic")
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("Please look it up.")
        await phone.wait_ended()
        ended = await house.ended(phone)
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER
    assert ended.reason == "agent_hung_up"
    # Heard to its end: nothing was cleared, nothing left behind, and it is as long as it was made.
    assert phone.clears == []
    sent_ms = list(house.model.connections[-1].audio_sent_ms.values())[-1]
    start, end = phone.recording.segments("agent", min_gap_ms=1000)[-1]
    assert abs((end - start) - sent_ms) < 300
