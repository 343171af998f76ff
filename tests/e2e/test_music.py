"""Hold music in a call, judged by ear: silence, music and speech told apart in the recording."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from services.holdmusic import builtin
from simulators import g711
from simulators.openai_realtime import Script
from simulators.phone import Phone
from tests.e2e.conftest import House, HouseOf
from tests.helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

Pcm = NDArray[np.int16]

FILLER = "One moment please, I will look it up."
SCRIPT = Script.model_validate(
    {
        "name": "clinic",
        "greeting": {"say": "Hello, this is the clinic."},
        "turns": [
            {
                "hear": "What is the weather in Lisbon?",
                "say": FILLER,
                "call": [{"name": "get_weather", "arguments": {"location": "Lisbon"}}],
                "then": {"say": "It is {temp} degrees in Lisbon now.", "on_error": "I am sorry."},
            },
        ],
        "otherwise": {"hear": "Hello?", "say": "Yes, I am still here."},
    }
)
QUESTION = "What is the weather in Lisbon?"


async def clinic(build: HouseOf, *, delay_ms: int, **agent: object) -> House:
    """Tools whose weather takes twice `delay_ms` (a place, then its weather), and music."""
    house = await build(
        scripts={"clinic": SCRIPT},
        env={"WEATHER_TIMEOUT_S": "7"},  # for one answer; the tool itself may take eight
        tools=True,
        music=True,
        weather_delay_ms=delay_ms,
    )
    await house.agent(id="default", model="clinic", **agent)
    return house


def likeness(heard: Pcm, track: Pcm) -> float:
    """The highest normalised correlation of what was heard with any place in the (looped) track."""
    window = heard.astype(np.float64)
    looped = np.concatenate([track, track[: len(window)]]).astype(np.float64)
    size = len(looped) + len(window)
    cross = np.fft.irfft(np.fft.rfft(looped, size) * np.conj(np.fft.rfft(window, size)), size)
    energy = np.cumsum(np.concatenate([[0.0], looped**2]))
    norms = np.sqrt(energy[len(window) :] - energy[: -len(window)])[: len(track)]
    scale = norms * np.linalg.norm(window)
    return float(np.max(np.abs(cross[: len(track)][: len(norms)]) / np.maximum(scale, 1.0)))


def piece(phone: Phone, start_ms: int, end_ms: int) -> Pcm:
    return phone.recording.heard[start_ms * 8 : end_ms * 8]


@pytest.fixture(scope="module")
def track() -> Pcm:
    """The built-in track, as the phone would play it: nothing else is in the store."""
    return g711.decode(builtin.track("pcmu"))


async def test_music_plays_while_a_tool_is_slow_and_stops_for_the_answer(
    build: HouseOf, track: Pcm
) -> None:
    # The filler ends, then silence until the delay is over, then music until the answer.
    house = await clinic(build, delay_ms=2800, hold_delay_ms=3500)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say(QUESTION)
        await eventually(lambda: house.told(phone, "hold_ended"), 30)
        await phone.wait_agent_turn()
        await phone.hang_up()
        await house.ended(phone)

    (called,) = house.told(phone, "tool_called")
    (held,) = house.told(phone, "hold_started")
    (over,) = house.told(phone, "hold_ended")
    assert held.source == "built-in"  # type: ignore[attr-defined]
    assert over.reason == "agent"  # type: ignore[attr-defined]
    # Told by the ear.  The story's clock and the recording's begin with the call.
    greeting, filler, *rest = phone.recording.segments("agent", min_gap_ms=400)
    assert rest[0][0] - filler[1] > 500, "silence between the agent's words and the music"
    assert abs(rest[0][0] - (called.ms + 3500)) < 700, "music begins when the delay is over"
    music = piece(phone, held.ms + 1000, over.ms - 100)
    assert likeness(music, track) > 0.6
    for words in (greeting, filler, (over.ms + 300, over.ms + 1800)):
        assert likeness(piece(phone, *words), track) < 0.4
        assert g711.rms_dbfs(piece(phone, *words)) > -40
    # Nothing is left in the phone's buffer: what was cleared is music, and it is little.
    assert [clear.dropped_bytes / 8 <= 400 for clear in phone.clears] == [True]
    assert phone.warnings == []


async def test_a_quick_tool_never_makes_a_sound(build: HouseOf) -> None:
    house = await clinic(build, delay_ms=25)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say(QUESTION)
        await phone.wait_agent_turn()
        await phone.hang_up()
        await house.ended(phone)
    assert house.told(phone, "hold_started") == []
    assert phone.clears == []
    model = house.model.connections[-1]
    spoken_ms = sum(model.audio_sent_ms.values())
    talked_ms = phone.summary()["agent_talk_ms"]
    assert isinstance(talked_ms, int)
    assert talked_ms <= spoken_ms + 100  # the agent's voice, and nothing else


async def test_the_callers_voice_stops_the_music_and_the_result_is_not_lost(
    build: HouseOf, track: Pcm
) -> None:
    house = await clinic(build, delay_ms=3500)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say(QUESTION)
        await eventually(lambda: house.told(phone, "hold_started"), 30)
        await phone.wait_agent_speaking()
        await phone.say("Hello? Are you still there? I have been waiting for a while.")
        await eventually(lambda: house.told(phone, "tool_answered"), 30)
        await phone.wait_agent_turn(quiet_ms=1500)
        await phone.hang_up()
        await house.ended(phone)
    first, *_ = house.told(phone, "hold_ended")
    assert first.reason == "caller"  # type: ignore[attr-defined]
    (answered,) = house.told(phone, "tool_answered")
    assert answered.error == ""  # type: ignore[attr-defined]
    said = [line.text for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert any(text.endswith("degrees in Lisbon now.") for text in said)
    # While the caller spoke there was no music: it fell silent within the voice detection's time.
    spoke = phone.recording.segments("said", min_gap_ms=600)[-1]
    assert likeness(piece(phone, spoke[0] + 500, spoke[1]), track) < 0.5


async def test_music_that_is_killed_in_mid_hold_does_not_cost_the_call(build: HouseOf) -> None:
    house = await clinic(build, delay_ms=2500)
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say(QUESTION)
        await eventually(lambda: house.told(phone, "hold_started"), 30)
        house.stack.child("holdmusic").kill()
        await eventually(lambda: len(house.told(phone, "transcript")) == 4, 30)
        await phone.wait_agent_quiet()
        await phone.hang_up()
        ended = await house.ended(phone)
    assert ended.reason == "caller_hung_up"
    said = [line.text for line in house.told(phone, "transcript")]  # type: ignore[attr-defined]
    assert said[-1].endswith("degrees in Lisbon now.")


async def test_a_track_that_does_not_exist_is_replaced_and_the_story_says_so(
    build: HouseOf,
) -> None:
    house = await clinic(build, delay_ms=2000, hold_track="no-such-song.mp3")
    async with house.phone() as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say(QUESTION)
        await eventually(lambda: house.told(phone, "hold_started"), 30)
        await phone.hang_up()
        await house.ended(phone)
    (held,) = house.told(phone, "hold_started")
    assert held.fallback  # type: ignore[attr-defined]
    (over,) = house.told(phone, "hold_ended")
    assert over.reason == "ended"  # type: ignore[attr-defined]


async def test_two_calls_on_hold_hear_their_own_music(build: HouseOf) -> None:
    """One hold's end is not the other's: there is no state for all calls."""
    house = await clinic(build, delay_ms=3000)

    async def one(quiet_ms: int) -> Phone:
        async with house.phone() as phone:
            await phone.dial()
            await phone.wait_agent_turn(quiet_ms=quiet_ms)
            await phone.say(QUESTION)
            await eventually(lambda: house.told(phone, "hold_ended"), 30)
            await phone.wait_agent_turn()
            await phone.hang_up()
            await house.ended(phone)
        return phone

    for phone in await asyncio.gather(one(700), one(2500)):
        (over,) = house.told(phone, "hold_ended")
        assert over.reason == "agent"  # type: ignore[attr-defined]
        assert over.duration_ms > 2000  # type: ignore[attr-defined]
