"""Hold music: heard while its hold is on, and not a frame longer."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.gateway.music import Music
from shared import subjects
from shared.bus import Bus
from shared.messages import Clear, HangUpLeg, HoldOff, HoldOn, Mark
from tests.helpers import eventually
from tests.unit.gateway.house import Gateway, Owner, Phone, frames, metric, new_call

CLEAR = "clear"


# --- by itself -----------------------------------------------------------------------------------


class ScriptedBus:
    """Keeps what was subscribed to, so that a test can deliver late."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        self.awake = asyncio.Event()
        self.awake.set()
        self.left = 0

    async def subscribe(self, subject: str, handle: Callable[[Msg], Awaitable[None]]) -> object:
        await self.awake.wait()
        self.handlers[subject] = handle
        return object()

    async def unsubscribe(self, _subscription: object) -> None:
        self.left += 1

    async def deliver(self, call: str, hold: int, data: bytes) -> None:
        subject = subjects.hold_audio(call, hold)
        await self.handlers[subject](Msg(cast(Any, None), subject=subject, data=data))


def scripted() -> tuple[ScriptedBus, Music, list[bytes]]:
    bus, played = ScriptedBus(), list[bytes]()

    async def play(audio: bytes) -> None:
        played.append(audio)

    return bus, Music(cast(Bus, bus), play), played


@pytest.mark.unit
async def test_a_late_frame_is_not_played() -> None:
    bus, music, played = scripted()
    call = new_call()
    await music.listen(call, 1)
    await bus.deliver(call, 1, b"a")
    assert music.silence()
    await bus.deliver(call, 1, b"late")
    await music.leave()
    await music.listen(call, 2)
    await bus.deliver(call, 1, b"later still")
    await bus.deliver(call, 2, b"b")
    assert played == [b"a", b"b"]
    assert music.frames == 2


@pytest.mark.unit
async def test_only_a_hold_that_was_heard_needs_a_clear() -> None:
    bus, music, _ = scripted()
    call = new_call()
    await music.listen(call, 1)
    assert not music.silence()
    await music.listen(call, 2)
    await bus.deliver(call, 2, b"a")
    assert music.silence()
    assert not music.silence()
    await music.listen(call, 3)
    assert not music.silence()  # what was heard in hold 2 does not count


@pytest.mark.unit
async def test_a_hold_that_ends_while_it_begins_leaves_nothing() -> None:
    bus, music, _ = scripted()
    bus.awake.clear()
    beginning = asyncio.create_task(music.listen(new_call(), 1))
    await asyncio.sleep(0)
    music.silence()
    await music.leave()
    bus.awake.set()
    await beginning
    assert bus.left == 1


# --- in a stream ---------------------------------------------------------------------------------


async def hold(edge: Gateway, owner: Owner, call: str, number: int) -> None:
    """Music on, and known at the broker."""
    before = set(edge.bus.client._subs)
    owner.say(call, HoldOn(hold=number))

    def subscribed() -> bool:
        new = [one for sid, one in edge.bus.client._subs.items() if sid not in before]
        return subjects.hold_audio(call, number) in [one.subject for one in new]

    await eventually(subscribed)
    await edge.bus.flush()


def holds(edge: Gateway) -> list[Subscription]:
    return [one for one in edge.bus.client._subs.values() if ".hold." in one.subject]


async def heard(phone: Phone, count: int) -> list[bytes | str]:
    """The next messages: audio as bytes, a mark by its name, `clear`."""
    found: list[bytes | str] = []
    for _ in range(count):
        match await phone.receive():
            case {"event": "media", "media": {"payload": str(payload)}}:
                found.append(base64.b64decode(payload))
            case {"event": "mark", "mark": {"name": str(name)}}:
                found.append(name)
            case {"event": event}:
                found.append(str(event))
            case _:
                raise AssertionError("no event")
    return found


@pytest.mark.e2e
async def test_music_is_heard_while_its_hold_is_on(
    edge: Gateway, owner: Owner, live: Phone
) -> None:
    call, music = live.call, frames(3)
    before = metric("frames_music_total")
    owner.play(call, 1, b"too early")
    await hold(edge, owner, call, 1)
    owner.play(call, 1, *music)
    assert await heard(live, 3) == music
    owner.say(call, HoldOff(hold=1), b"agent", Mark(name="0.1.200"))
    # Nothing of the music is left in Twilio's buffer when the agent speaks.
    assert await heard(live, 3) == [CLEAR, b"agent", "0.1.200"]
    owner.play(call, 1, b"late")
    owner.say(call, Mark(name="end"))
    assert await heard(live, 1) == ["end"]
    assert holds(edge) == []
    await live.stop()
    await eventually(lambda: metric("frames_music_total") == before + 3)


@pytest.mark.e2e
async def test_a_hold_without_music_makes_no_sound_and_no_clear(
    edge: Gateway, owner: Owner, live: Phone
) -> None:
    owner.say(live.call, HoldOn(hold=1), HoldOff(hold=1), b"agent")
    assert await heard(live, 1) == [b"agent"]
    await eventually(lambda: holds(edge) == [])


@pytest.mark.e2e
async def test_a_new_hold_replaces_the_one_before(edge: Gateway, owner: Owner, live: Phone) -> None:
    call = live.call
    await hold(edge, owner, call, 1)
    owner.play(call, 1, b"one")
    assert await heard(live, 1) == [b"one"]
    await hold(edge, owner, call, 2)
    assert await heard(live, 1) == [CLEAR]
    owner.play(call, 1, b"one again")
    owner.play(call, 2, b"two")
    assert await heard(live, 1) == [b"two"]
    assert len(holds(edge)) == 1


@pytest.mark.e2e
async def test_what_is_said_of_other_holds_changes_nothing(
    edge: Gateway, owner: Owner, live: Phone
) -> None:
    call = live.call
    owner.say(call, HoldOff(hold=7))
    await hold(edge, owner, call, 2)
    owner.play(call, 2, b"a")
    assert await heard(live, 1) == [b"a"]
    owner.say(call, HoldOff(hold=1), HoldOn(hold=2), Mark(name="still"))
    assert await heard(live, 1) == ["still"]
    owner.play(call, 2, b"b")
    assert await heard(live, 1) == [b"b"]
    assert len(holds(edge)) == 1


@pytest.mark.e2e
async def test_a_barge_in_ends_the_music(edge: Gateway, owner: Owner, live: Phone) -> None:
    call = live.call
    await hold(edge, owner, call, 1)
    owner.play(call, 1, b"a")
    assert await heard(live, 1) == [b"a"]
    owner.say(call, Clear(), HoldOff(hold=1), Mark(name="end"))
    assert await heard(live, 2) == [CLEAR, "end"]
    owner.play(call, 1, b"late")
    owner.say(call, Mark(name="really"))
    assert await heard(live, 1) == ["really"]
    assert holds(edge) == []


async def stopped(caller: Phone, _owner: Owner) -> None:
    await caller.stop()


async def broken(caller: Phone, _owner: Owner) -> None:
    caller.socket.transport.abort()


async def hung_up(caller: Phone, owner: Owner) -> None:
    owner.say(caller.call, HangUpLeg(reason="agent"))


@pytest.mark.e2e
@pytest.mark.parametrize("end", [stopped, broken, hung_up])
async def test_the_end_of_a_stream_ends_its_music(
    edge: Gateway,
    owner: Owner,
    live: Phone,
    end: Callable[[Phone, Owner], Awaitable[None]],
) -> None:
    await hold(edge, owner, live.call, 1)
    owner.play(live.call, 1, b"a")
    assert await heard(live, 1) == [b"a"]
    await end(live, owner)
    await eventually(lambda: metric("streams") == 0)
    assert holds(edge) == []


@pytest.mark.e2e
async def test_calls_on_hold_do_not_hear_each_other(
    edge: Gateway, owner: Owner, live: Phone
) -> None:
    await hold(edge, owner, live.call, 1)
    owner.play(new_call(), 1, b"another call's")
    owner.play(live.call, 1, b"mine")
    assert await heard(live, 1) == [b"mine"]
