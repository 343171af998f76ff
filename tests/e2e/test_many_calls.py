"""Many calls: at once they do not disturb each other, one after the other they leak nothing."""

import asyncio

import pytest

from simulators.openai_realtime import Script
from simulators.phone import OutcomeKind, Phone
from tests.e2e.conftest import House, HouseOf
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

AT_ONCE = 20
IN_A_ROW = 200
#: Calls before the first look: pools fill, imports happen, allocators settle.
WARM_UP = 40
#: What the rest may add to each process.  A leaked call holds a socket, a task and its buffers:
#: 100 kB and more each, 16 MB in all.
GROWTH_LIMIT_BYTES = 8 * 1024 * 1024

TALK = Script.model_validate(
    {
        "name": "talk",
        "greeting": {"say": "Hello, this line is busy with many calls at the same time."},
        "turns": [{"hear": "Thank you.", "say": "It is a pleasure to talk to you."}],
    }
)
SHORT = Script.model_validate(
    {"name": "short", "greeting": {"say": "Hi!", "audio_ms": 200}, "think_ms": 0}
)


async def test_twenty_calls_at_once_do_not_disturb_each_other(build: HouseOf) -> None:
    house = await build(scripts={"talk": TALK})
    await house.agent(id="default", model="talk")

    async def one(number: int) -> Phone:
        async with house.phone(from_=f"+1555000{number:04d}") as phone:
            await phone.dial()
            await phone.wait_agent_turn(timeout_s=60)
            await phone.say("Thank you.")
            await phone.wait_agent_turn(timeout_s=60)
            await phone.hang_up()
            await eventually(lambda: house.told(phone, "ended"), 30)
        return phone

    phones = await asyncio.gather(*(one(number) for number in range(AT_ONCE)))

    assert len(house.model.connections) == AT_ONCE
    lengths = set()
    for phone in phones:
        assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER
        assert phone.warnings == []
        assert phone.clears == []  # nobody was interrupted by somebody else's voice
        assert len(phone.streams) == 1
        # Told of itself only.
        assert {event.call for event in house.story(phone)} == {phone.identity.call_sid}
        (ended,) = house.told(phone, "ended")
        assert ended.dropped_audio_ms == 0  # type: ignore[attr-defined]
        talked = phone.summary()["agent_talk_ms"]
        assert isinstance(talked, int)
        lengths.add(round(talked, -2))
    # All heard the same two sentences, whole: the lengths agree to the player's granularity.
    assert max(lengths) - min(lengths) <= 200


async def leftovers(house: House) -> dict[str, float]:
    """What a leak would raise, in each of our processes."""
    found = {}
    for name, base in (
        ("session", house.stack.session_health[0]),
        ("gateway", house.stack.gateway_url),
    ):
        for metric in ("switchboard_asyncio_tasks", "switchboard_nats_subscriptions"):
            found[f"{name} {metric}"] = await house.metric(base, metric)
    return found


async def memory(house: House) -> dict[str, float]:
    """Resident bytes of each of our processes."""
    return {
        "session": await house.metric(
            house.stack.session_health[0], "process_resident_memory_bytes"
        ),
        "gateway": await house.metric(house.stack.gateway_url, "process_resident_memory_bytes"),
    }


async def test_two_hundred_calls_one_after_the_other_leak_nothing(build: HouseOf) -> None:
    house = await build(scripts={"short": SHORT})
    await house.agent(id="default", model="short")
    before = await leftovers(house)
    after_warm_up: dict[str, float] = {}
    for number in range(IN_A_ROW):
        async with house.phone() as phone:
            await phone.dial()
            await phone.wait_agent_speaking()
            await phone.hang_up()
            await house.ended(phone)
        if number == WARM_UP:
            after_warm_up = await memory(house)

    async def settled() -> bool:
        assert await leftovers(house) == before
        return True

    await eventually(settled)
    session = house.stack.session_health[0]
    assert await house.metric(session, "switchboard_session_ended_total") == IN_A_ROW
    assert await house.metric(session, "switchboard_session_active") == 0
    for name, used in (await memory(house)).items():
        assert used - after_warm_up[name] < GROWTH_LIMIT_BYTES, name
