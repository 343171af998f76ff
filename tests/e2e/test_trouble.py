"""What goes wrong in a call, and what the caller notices of it."""

import pytest

from simulators.openai_realtime import Faults, Script
from simulators.phone import OutcomeKind
from tests.e2e.conftest import House, HouseOf
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


ANSWER = "We are open from nine to five."
SCRIPT = Script.model_validate(
    {
        "name": "acme",
        "greeting": {"say": "Hello, you have reached Acme."},
        "turns": [{"hear": "When are you open?", "say": ANSWER}],
    }
)


async def acme(build: HouseOf, **options: object) -> House:
    """A house whose default agent follows SCRIPT."""
    house = await build(scripts={"acme": SCRIPT}, **options)
    await house.agent(id="default", model="acme")
    return house


async def test_a_model_that_refuses_us_lets_the_caller_hear_an_apology(build: HouseOf) -> None:
    house = await build()
    await house.agent(id="default", model="no-such-model")
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_ended()
        ended = await house.ended(phone)
    assert any("sorry" in text.lower() for text in phone.heard_say)
    assert (ended.reason, ended.detail) == ("model_unavailable", "invalid_model")


async def test_a_model_that_cannot_be_reached_is_tried_again_then_the_call_is_answered(
    build: HouseOf,
) -> None:
    house = await acme(build, faults=Faults(refuse_first_n=2))
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
    effects = [line.effect for line in house.told(phone, "model_failed")]  # type: ignore[attr-defined]
    assert effects == ["redialled", "redialled"]
    assert phone.answered_by_agent


async def test_a_slow_model_keeps_the_callers_first_words(build: HouseOf) -> None:
    """What is said before the model is configured is kept and heard by it afterwards."""
    house = await acme(build, faults=Faults(dial_delay_ms=1500))
    async with house.phone() as phone:
        await phone.dial()
        await phone.say("When are you open?")
        await eventually(lambda: house.told(phone, "caller_stopped_speaking"), 20)
        await phone.hang_up()
        await house.ended(phone)
    assert house.told(phone, "caller_started_speaking")


async def test_a_model_socket_that_drops_is_replaced_and_told_what_was_said(
    build: HouseOf,
) -> None:
    house = await acme(build, faults=Faults(first_n=1, drop_on="response.done", drop_on_nth=2))
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("When are you open?")
        await eventually(lambda: len(house.model.connections) == 2, 20)
        second = house.model.connections[-1]
        await eventually(lambda: len(house.told(phone, "model_ready")) == 2)
        await phone.wait_agent_quiet(quiet_ms=1500)
        await phone.hang_up()
        ended = await house.ended(phone)
    created = [event["item"] for event in second.received if event["type"].endswith("item.create")]
    texts = [item["content"][0]["text"] for item in created]
    assert SCRIPT.greeting.say in texts
    assert ANSWER in texts
    greetings = [
        event
        for event in second.received
        if event["type"] == "response.create"
        and event["response"]["metadata"]["purpose"] == "greeting"
    ]
    assert greetings == []  # nobody is greeted twice
    assert ended.reason == "caller_hung_up"


async def test_a_session_that_expires_is_renewed_in_mid_call(build: HouseOf) -> None:
    house = await acme(build, faults=Faults(first_n=1, session_ms=6000))
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await eventually(lambda: len(house.told(phone, "model_ready")) == 2, 20)
        await phone.say("When are you open?")
        await phone.wait_agent_turn(timeout_s=40)
        await phone.hang_up()
    codes = [line.code for line in house.told(phone, "model_failed")]  # type: ignore[attr-defined]
    assert codes[0] == "session_expired"


async def test_a_model_that_dies_for_good_ends_the_call_with_an_apology(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        house.model.faults.http_status = 503
        house.model.connections[-1].abort()
        await phone.wait_ended(timeout_s=40)
        ended = await house.ended(phone)
    assert ended.reason == "model_unavailable"
    assert any("sorry" in text.lower() for text in phone.heard_say)


async def test_a_phone_that_loses_its_socket_comes_back_to_the_same_conversation(
    build: HouseOf,
) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.abort_stream()
        await eventually(lambda: house.told(phone, "leg_replaced"))
        await phone.say("When are you open?")
        await phone.wait_agent_turn()
        await phone.hang_up()
        ended = await house.ended(phone)
    assert len(phone.streams) == 2
    assert len(house.model.connections) == 1
    assert ended.reason == "caller_hung_up"
    said = [line.text for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert said == [SCRIPT.greeting.say, "When are you open?", ANSWER]


async def test_a_call_whose_only_gateway_dies_is_let_go(build: HouseOf) -> None:
    """Nobody can say that the socket was lost; the silence on the line does, after a while."""
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        gateway = house.stack.child("gateway")
        gateway.kill()
        await gateway.wait()
        await phone.wait_ended()
        await eventually(lambda: house.told(phone, "ended"), 60)
        ended = await house.ended(phone)
    assert ended.reason == "caller_lost"
    assert phone.outcome.kind is OutcomeKind.FAILED
    await eventually(lambda: house.model.connections[-1].closed)


async def test_a_caller_whose_session_worker_dies_is_not_left_in_silence(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        house.stack.child("session").kill()
        await phone.wait_ended()
    assert any("sorry" in text.lower() for text in phone.heard_say)
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER


async def test_a_caller_whose_worker_is_stopped_for_good_hears_a_word(build: HouseOf) -> None:
    """`DRAIN_S` is over and nobody else can take the call: it ends politely."""
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await house.stack.child("session").stop()
        await phone.wait_ended()
        ended = await house.ended(phone)
    assert ended.reason == "worker_stopped"
    assert any("sorry" in text.lower() for text in phone.heard_say)


async def test_garbage_from_the_model_is_survived(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        model = house.model.connections[-1]
        model.send_error(
            {"type": "invalid_request_error", "code": "unknown_parameter", "message": "x"}
        )
        await phone.wait_agent_turn()
        await phone.say("When are you open?")
        await phone.wait_agent_turn()
        await phone.hang_up()
        ended = await house.ended(phone)
    assert ended.reason == "caller_hung_up"
