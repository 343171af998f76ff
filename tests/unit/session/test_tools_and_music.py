"""Tools and music over a real broker: a scripted tool service, a scripted musician."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from nats import micro
from nats.aio.msg import Msg
from nats.micro.request import Request

from shared import messages, subjects
from shared.bus import Bus, bucket
from shared.messages import AgentSettings, MusicStarted, PlayMusic, ToolRequest
from tests.helpers import eventually
from tests.unit.session.house import Gateway, House

pytestmark = pytest.mark.e2e

NUMBER = "+4755512345"
HOLD_DELAY_MS = 100
METADATA = {
    "description": "Looks it up.",
    "parameters": json.dumps({"type": "object", "properties": {"place": {"type": "string"}}}),
    "timeout_ms": "2000",
    "hold_music": "true",
}


class Service:
    """A tool of a stranger's: it answers when it is told to."""

    def __init__(self) -> None:
        self.requests: list[ToolRequest] = []
        self.may_answer = asyncio.Event()
        self.answer: bytes = b'{"temp": 7}'
        self.error: tuple[str, str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def on_request(self, request: Request) -> None:
        self.requests.append(ToolRequest.decode(request.data))
        task = asyncio.create_task(self._respond(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, request: Request) -> None:
        await self.may_answer.wait()
        if self.error is not None:
            await request.respond_error(*self.error)
        else:
            await request.respond(self.answer)


class Musician:
    """Says that it plays; `slow` may hold it up."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.asked: list[PlayMusic] = []
        self.stopped: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def on_play(self, message: Msg) -> None:
        self.asked.append(PlayMusic.decode(message.data))
        await self.may_answer.wait()
        answer = MusicStarted(track="bossa.mp3", source="store")
        await message.respond(answer.encode())

    async def on_stop(self, message: Msg) -> None:
        self.stopped.append(message.subject)


@pytest.fixture
async def tool(bus: Bus) -> AsyncIterator[Service]:
    tool = Service()
    service = await micro.add_service(bus.client, name="library", version="1.0.0")
    await service.add_endpoint(
        name="look_up",
        subject="tool.look_up",
        handler=tool.on_request,
        metadata=METADATA,
    )
    await bus.flush()
    yield tool
    await service.stop()


@pytest.fixture
async def musician(bus: Bus) -> AsyncIterator[Musician]:
    musician = Musician(bus)
    subscriptions = [
        await bus.subscribe(subjects.HOLD_PLAY, musician.on_play, queue="holdmusic"),
        await bus.subscribe("call.*.hold.*.stop", musician.on_stop),
    ]
    await bus.flush()
    yield musician
    for subscription in subscriptions:
        await bus.unsubscribe(subscription)


@pytest.fixture
async def agent(bus: Bus) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Sets the agent that has `NUMBER`."""
    agents = await bucket(bus, subjects.AGENTS_BUCKET)

    async def put(**fields: object) -> None:
        given = {"model": "calling", "hold_delay_ms": HOLD_DELAY_MS, **fields}
        settings = AgentSettings(id="tested", numbers=[NUMBER], **given)
        await agents.put("tested", settings.encode())

    await put()
    yield put
    await agents.delete("tested")


async def asks(house: House) -> Gateway:
    """A caller who was greeted, and asks for something that needs the tool."""
    await house.worker()
    phone = await house.gateway(NUMBER).begin()
    await eventually(lambda: phone.told("agent_finished_speaking"))
    await phone.speaks()
    await eventually(lambda: phone.told("tool_called"))
    return phone


async def spoke_again(phone: Gateway) -> None:
    await eventually(lambda: len(phone.told("agent_finished_speaking")) == 2)


def given(house: House) -> list[dict[str, object]]:
    """The outputs that the model was given."""
    items = [
        one["item"] for one in house.model.connections[-1].received_of("conversation.item.create")
    ]
    return [json.loads(one["output"]) for one in items if one["type"] == "function_call_output"]


@pytest.mark.usefixtures("agent")
async def test_a_tool_on_the_bus_is_offered_asked_and_spoken_about(
    house: House, tool: Service
) -> None:
    tool.may_answer.set()
    phone = await asks(house)
    await spoke_again(phone)
    offered = {one["name"]: one for one in house.model.connections[-1].config["tools"]}
    assert offered["look_up"]["description"] == "Looks it up."
    (request,) = tool.requests
    assert request.call == phone.call
    # What the model makes up is an argument; who calls is told by the context alone.
    assert request.arguments == {"place": "Oslo", "caller": "+666"}
    assert request.context.caller == "+1"
    assert request.deadline_ms == 2000
    assert given(house) == [{"temp": 7}]
    assert ("assistant", "It is 7.") in house.model.connections[-1].transcript
    assert "hold_on" not in phone.order
    assert not house.model.connections[-1].errors


@pytest.mark.usefixtures("agent")
async def test_a_slow_tool_is_covered_by_music_that_ends_before_the_answer(
    house: House, tool: Service, musician: Musician
) -> None:
    phone = await asks(house)
    await eventually(lambda: phone.told("hold_started"))
    assert phone.told("hold_started")[0].track == "bossa.mp3"
    (asked,) = musician.asked
    assert (asked.call, asked.hold, asked.audio) == (phone.call, 1, "pcmu")
    assert messages.HoldOn(hold=1) in phone.controls
    before = len(phone.audio)
    tool.may_answer.set()
    await eventually(lambda: len(phone.audio) > before)
    after_music = phone.order[phone.order.index("hold_on") :]
    assert after_music[:2] == ["hold_on", "hold_off"]
    assert "audio" in after_music
    await eventually(lambda: musician.stopped == [subjects.hold_stop(phone.call, 1)])
    await eventually(lambda: phone.told("hold_ended"))
    assert phone.told("hold_ended")[0].reason == "agent"


@pytest.mark.usefixtures("agent")
async def test_without_a_musician_there_is_silence_and_the_call_goes_on(
    house: House, tool: Service
) -> None:
    phone = await asks(house)
    await eventually(lambda: phone.told("hold_ended"))
    assert phone.told("hold_ended")[0].reason == "failed"
    tool.may_answer.set()
    await spoke_again(phone)
    assert phone.told("hold_started") == []
    assert phone.order.count("hold_on") == phone.order.count("hold_off") == 1


@pytest.mark.usefixtures("agent")
async def test_music_that_begins_too_late_is_told_to_stop_once_more(
    house: House, tool: Service, musician: Musician
) -> None:
    musician.may_answer.clear()
    phone = await asks(house)
    await eventually(lambda: musician.asked)
    phone.say(messages.LegStopped())
    await phone.ended()
    await eventually(lambda: len(musician.stopped) == 1)
    musician.may_answer.set()
    await eventually(lambda: len(musician.stopped) == 2)


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("error", "code"),
    [(("crashed", "ValueError"), "crashed"), (("500", "Out of order \N{SNOWMAN}"), "500")],
)
async def test_a_tool_that_crashes_is_an_error_that_the_agent_speaks_about(
    house: House, tool: Service, error: tuple[str, str], code: str
) -> None:
    tool.error = error
    tool.may_answer.set()
    phone = await asks(house)
    await spoke_again(phone)
    (output,) = given(house)
    assert output["error"] == code
    assert output["message"]
    assert ("assistant", "I am sorry.") in house.model.connections[-1].transcript


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("answer", [b"", b"It is 7.", b"\xff", b"[" * 100_000])
async def test_an_answer_that_is_no_json_is_an_error(
    house: House, tool: Service, answer: bytes
) -> None:
    tool.answer = answer
    tool.may_answer.set()
    phone = await asks(house)
    await eventually(lambda: phone.told("tool_answered"))
    assert phone.told("tool_answered")[0].error == "invalid_output"
    await spoke_again(phone)


@pytest.mark.usefixtures("agent")
async def test_an_answer_with_half_a_character_does_not_break_the_models_socket(
    house: House, tool: Service
) -> None:
    tool.answer = b'{"temp": "\\ud83d"}'
    tool.may_answer.set()
    phone = await asks(house)
    await spoke_again(phone)
    assert len(house.model.connections) == 1


@pytest.mark.usefixtures("agent")
async def test_a_tool_that_does_not_answer_is_given_up(house: House, tool: Service) -> None:
    phone = await asks(house)
    await spoke_again(phone)
    assert phone.told("tool_answered")[0].error == "timeout"
    assert phone.told("tool_answered")[0].duration_ms >= 2000
    assert len(tool.requests) == 1


@pytest.mark.usefixtures("agent", "musician")
async def test_a_tool_that_nobody_serves_is_unknown_and_nothing_hangs_on(house: House) -> None:
    phone = await asks(house)
    await spoke_again(phone)
    assert phone.told("tool_answered")[0].error == "unknown_tool"
    assert phone.order.count("hold_on") == 0


async def test_arguments_that_are_no_json_reach_no_tool(
    house: House, tool: Service, agent: Callable[..., Awaitable[None]]
) -> None:
    await agent(model="odd")
    phone = await asks(house)
    await spoke_again(phone)
    assert phone.told("tool_answered")[0].error == "invalid_json"
    assert tool.requests == []


@pytest.mark.usefixtures("agent")
async def test_a_tool_that_still_runs_at_the_end_leaves_nothing_behind(
    house: House, tool: Service, musician: Musician
) -> None:
    phone = await asks(house)
    await eventually(lambda: phone.told("hold_started"))
    phone.say(messages.LegStopped())
    await phone.ended()
    await eventually(lambda: musician.stopped)
    assert phone.order[-1] == "hang_up"
    tool.may_answer.set()
