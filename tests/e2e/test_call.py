"""A phone call from webhook to goodbye, judged by what the caller heard."""

import aiohttp
import pytest

from shared import messages, subjects
from simulators.openai_realtime import Script
from simulators.phone import OutcomeKind, Phone
from simulators.phone_summary import judge
from simulators.twilio_signature import sign
from tests.e2e.conftest import TWILIO_TOKEN, House, HouseOf
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

GREETING = "Hello, you have reached Acme. How can I help you?"
LONG_ANSWER = (
    "We are open from nine to five on weekdays, and from ten to two on Saturdays. "
    "On Sundays and on public holidays we are closed, but you can always leave a message."
)
SCRIPT = Script.model_validate(
    {
        "name": "acme",
        "greeting": {"say": GREETING},
        "turns": [
            {"hear": "When are you open?", "say": LONG_ANSWER},
            {"hear": "Stop, thank you.", "say": "You are welcome."},
        ],
    }
)


async def acme(build: HouseOf, **options: object) -> House:
    """A house whose default agent follows SCRIPT."""
    house = await build(scripts={"acme": SCRIPT}, **options)
    await house.agent(id="default", model="acme")
    return house


def names(house: House, phone: Phone) -> list[str]:
    return [event.NAME for event in house.story(phone)]


async def test_the_caller_is_greeted_answered_and_hangs_up(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("When are you open?")
        await phone.wait_agent_turn()
        await phone.hang_up()
        ended = await house.ended(phone)

    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER
    assert phone.warnings == []
    # Heard: two separate stretches of speech, as long as the model made them, nothing else.
    model = house.model.connections[-1]
    heard = phone.recording.segments("agent", min_gap_ms=1000)
    assert len(heard) == 2
    for (start, end), sent_ms in zip(heard, model.audio_sent_ms.values(), strict=True):
        assert abs((end - start) - sent_ms) < 300  # speech fades in and out below the threshold
    # Told: a story somebody can read.
    story = names(house, phone)
    assert story[0] == "offered"
    assert story[-1] == "ended"
    assert story.count("agent_finished_speaking") == 2
    said = [(line.who, line.text) for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert said == [("agent", GREETING), ("caller", "When are you open?"), ("agent", LONG_ANSWER)]
    assert ended.reason == "caller_hung_up"
    assert ended.tokens.audio_out > 0
    assert ended.dropped_audio_ms == 0
    # Closed: both ends, and no truncation was needed.
    await eventually(lambda: model.closed)
    assert model.truncations == []
    assert model.errors == type(model.errors)()


async def test_the_model_is_dialled_while_the_phone_rings(build: HouseOf) -> None:
    """The worker answers the offer at once; `started` comes later than the dial."""
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        story = names(house, phone)
    assert story.index("offered") < story.index("started")
    created = house.model.connections[-1].received[0]
    assert created["type"] == "session.update"


async def test_a_barge_in_silences_the_phone_and_cuts_the_memory_to_what_was_heard(
    build: HouseOf,
) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("When are you open?")
        await phone.wait_heard_ms(1500)
        await phone.say("Stop, thank you.")
        await phone.wait_agent_turn()
        await phone.hang_up()
        await house.ended(phone)

    assert phone.warnings == []
    (clear,) = phone.clears
    model = house.model.connections[-1]
    ((item, cut_ms),) = model.truncations
    truth_ms = clear.played_since_empty_bytes / 8
    assert abs(cut_ms - truth_ms) <= 40
    assert clear.dropped_bytes > 0
    assert model.errors == type(model.errors)()
    # Heard: the long answer stops soon after the caller began, and is not taken up again.
    barge_ins = judge(phone.recording, stream_began_ms=0).barge_ins
    assert [barge_in.silent_after_ms < 1500 for barge_in in barge_ins] == [True]
    assert phone.recording.segments("agent", min_gap_ms=1000)[-1][1] > clear.at_ms
    # Told: what was heard of it, and no more.
    (interrupted,) = house.told(phone, "interrupted")
    assert interrupted.item == item  # type: ignore[attr-defined]
    assert interrupted.heard_ms == cut_ms  # type: ignore[attr-defined]
    text = interrupted.text  # type: ignore[attr-defined]
    assert 0 < len(text) < len(LONG_ANSWER)
    assert LONG_ANSWER.startswith(text)


async def test_an_operator_hangs_up(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        hang_up = messages.HangUp(reason="operator").encode()
        await house.bus.request(subjects.command(phone.identity.call_sid), hang_up, timeout=5)
        await phone.wait_ended()
        ended = await house.ended(phone)
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_SERVER
    assert ended.reason == "operator"
    await eventually(lambda: house.model.connections[-1].closed)


async def test_a_second_webhook_for_the_same_call_changes_nothing(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        form = {"CallSid": phone.identity.call_sid, "From": "+1", "To": "+2"}
        url = f"{house.stack.gateway_url}/twiml"
        headers = {"X-Twilio-Signature": sign(TWILIO_TOKEN, url, form.items())}
        async with (
            aiohttp.ClientSession() as http,
            http.post(url, data=form, headers=headers) as answer,
        ):
            assert answer.status == 200
            assert "<Stream" in await answer.text()
        await phone.wait_agent_turn()
        await phone.hang_up()
        await house.ended(phone)
    assert len(house.model.connections) == 1
    assert names(house, phone).count("started") == 1
    assert names(house, phone).count("leg_replaced") == 0


async def test_a_request_without_twilios_signature_is_refused(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone(auth_token=None) as phone:
        await phone.dial()
    assert phone.outcome.kind is OutcomeKind.FAILED
    assert len(house.model.connections) == 0


async def test_with_no_room_the_caller_hears_so_and_the_next_one_is_answered(
    build: HouseOf,
) -> None:
    house = await acme(build, env={"MAX_CALLS": "1", "BUSY_ANSWER": "say"})
    async with house.phone() as first:
        await first.dial()
        await first.wait_agent_speaking()
        async with house.phone() as second:
            await second.dial()
            await second.wait_ended()
        assert second.outcome.kind is OutcomeKind.BUSY_SAID
        assert len(second.heard_say) == 1
        await first.hang_up()
        await house.ended(first)
    # Its place is free again a moment after the story's end.
    session = house.stack.session_health[0]

    async def free() -> bool:
        return await house.metric(session, "switchboard_session_active") == 0

    await eventually(free)
    async with house.phone() as third:
        await third.dial()
        await third.wait_agent_speaking()
    assert third.answered_by_agent


async def test_keys_that_the_caller_presses_are_told(build: HouseOf) -> None:
    house = await acme(build)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        await phone.dtmf("5#")
        await eventually(lambda: len(house.told(phone, "key_pressed")) == 2)
    digits = [line.digit for line in house.told(phone, "key_pressed")]  # type: ignore[attr-defined]
    assert digits == ["5", "#"]


async def test_the_dialled_number_chooses_the_agent_and_a_live_call_keeps_its_own(
    build: HouseOf,
) -> None:
    other = SCRIPT.model_copy(update={"name": "other"})
    house = await build(scripts={"acme": SCRIPT, "other": other})
    await house.agent(id="default", model="acme")
    await house.agent(id="sales", model="other", numbers=["+15550002222"], voice="cedar")
    async with house.phone(to="+15550002222") as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        model = house.model.connections[-1]
        assert model.model == "other"
        assert model.config["audio"]["output"]["voice"] == "cedar"
        await house.agent(id="sales", model="acme", numbers=["+15550002222"], voice="marin")
        await phone.abort_stream()  # even a new leg of this call keeps its agent
        await phone.wait_agent_speaking()
        assert house.model.connections[-1] is model
        await phone.hang_up()
        await house.ended(phone)
    async with house.phone(to="+15550002222") as phone:
        await phone.dial()
        await phone.wait_agent_speaking()
        assert house.model.connections[-1].model == "acme"
