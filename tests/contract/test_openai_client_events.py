"""Every event we send to the model, held against the types of OpenAI's own SDK.

The types are looser than the service: they keep unknown fields and do not enforce the rule about
rates.  So unknown fields anywhere in an event are refused here, and the rule is checked by hand.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from openai.types.realtime import RealtimeClientEvent, RealtimeClientEventParam
from pydantic import BaseModel, Field, TypeAdapter

from services.session import events, realtime, skills
from services.session.toolcalls import ToolCalls, error_output
from shared.audio import FORMATS, FormatName
from shared.messages import AgentSettings, Tokens, TurnDetection
from tests.unit.session.watched import ABLE, TOOLS, Watched, finished

pytestmark = pytest.mark.contract

MODEL: TypeAdapter[Any] = TypeAdapter(Annotated[RealtimeClientEvent, Field(discriminator="type")])
TYPED_DICT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEventParam)

AGENTS = (
    AgentSettings(),
    AgentSettings(turn_detection=TurnDetection(type="semantic_vad", eagerness="high")),
    AgentSettings(turn_detection=TurnDetection(idle_timeout_ms=6000, threshold=0.0)),
    AgentSettings(noise_reduction="near_field", voice="cedar", speed=1.5),
    AgentSettings(noise_reduction="far_field", transcription_model=None),
    AgentSettings(transcription_model="gpt-transcribe", language="no", max_output_tokens=4096),
    AgentSettings(greeting=None, instructions="", max_output_tokens=1),
    AgentSettings(instructions='Say "\N{SNOWMAN}"\n\\ and \x00.', greeting="\N{SNOWMAN}"),
)

SCHEMAS = ToolCalls(skills.together(ABLE, TOOLS)).schemas()


def unknown_fields(model: object, path: str = "") -> Iterator[str]:
    """Paths of fields that the SDK does not know."""
    if isinstance(model, BaseModel):
        yield from (f"{path}.{name}" for name in model.model_extra or {})
        for name in type(model).model_fields:
            yield from unknown_fields(getattr(model, name), f"{path}.{name}")
    elif isinstance(model, list):
        for place, one in enumerate(model):
            yield from unknown_fields(one, f"{path}[{place}]")


def check(event: dict[str, Any]) -> None:
    model = MODEL.validate_python(event)
    assert list(unknown_fields(model)) == []
    assert model.model_dump(exclude_unset=True, by_alias=True) == event
    TYPED_DICT.validate_python(event)
    assert len(str(event.get("event_id", ""))) <= 512
    check_formats(event)
    assert json.loads(json.dumps(event)) == event


def check_formats(value: object) -> None:
    """OpenAI: mu-law has no rate key, PCM requires 24000; a wrong one rejects the whole update."""
    if isinstance(value, list):
        for one in value:
            check_formats(one)
    if isinstance(value, dict):
        for name, one in value.items():
            if name == "format":
                assert one in ({"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 24000})
            check_formats(one)


def scenario(agent: AgentSettings, audio: FormatName) -> Watched:
    """A call in which the machine says everything that it can say to a model."""
    watched = Watched(agent, audio)
    size = FORMATS[audio].bytes_per_ms * 3000
    watched.configure()
    watched.attach()
    watched.feed(
        events.ResponseStarted("r1", "greeting"), events.AudioReceived("r1", "i1", bytes(size))
    )
    watched.listen(1.0)
    # Barge-in, an answer, and the phone is lost in the middle of it.
    watched.feed(
        events.SpeechStarted("u1"),
        finished("r1", "cancelled", "turn_detected"),
        events.AgentTranscript("r1", "i1", "Hello, how may I help?", final=True),
        events.SpeechStopped("u1"),
        events.CallerTranscript("u1", "Who is this?", Tokens(), 1.0),
        events.ResponseStarted("r2", ""),
        events.AudioReceived("r2", "i2", bytes(size)),
        events.LegLost(1, "closed"),
        finished("r2", "cancelled", "client_cancelled"),
    )
    watched.attach()
    # The agent takes up its word and fails, the socket is lost, and all is told to a new session.
    watched.feed(events.ResponseStarted("r3", "resume"), finished("r3", "failed", "server_error"))
    watched.listen(1.0)
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(2.0)
    watched.configure()
    watched.feed(events.ResponseStarted("r4", "resume"), finished("r4", "failed", "server_error"))
    watched.listen(2.0)
    # Tools: one answers, one is unknown, one still runs when the socket is lost once more.
    watched.feed(
        events.ResponseStarted("r5", "resume"),
        events.FunctionCalled("r5", "call_1", "lookup", '{"place": "\N{SNOWMAN}"}'),
        events.FunctionCalled("r5", "call_2", "nobody", "{}"),
        events.FunctionCalled("r5", "call_3", "search", ""),
        finished("r5"),
        events.ToolFinished("call_1", '{"temp": 7}', ""),
        events.ModelClosed(1006, ""),
    )
    watched.listen(2.0)
    watched.configure()
    watched.feed(events.ToolFinished("call_3", "It is closed.", "unavailable"))
    # A goodbye that has to be asked for.
    watched.feed(
        events.ResponseStarted("r6", "tools"),
        events.FunctionCalled("r6", "call_4", "end_call", "{}"),
        finished("r6"),
    )
    watched.feed(events.LegStopped(2))
    return watched


@pytest.mark.parametrize("audio", ["pcmu", "pcm24k"])
@pytest.mark.parametrize("agent", AGENTS, ids=range(len(AGENTS)))
def test_everything_the_machine_sends_is_valid(agent: AgentSettings, audio: FormatName) -> None:
    watched = scenario(agent, audio)
    sent = [one.event for one in watched.actions if isinstance(one, events.SendModel)]
    for event in sent:
        check(event)
    assert {event["type"] for event in sent} == {
        "session.update",
        "response.create",
        "response.cancel",
        "conversation.item.truncate",
        "conversation.item.create",
    }
    items = {event["item"]["type"] for event in sent if "item" in event}
    assert items == {"message", "function_call", "function_call_output"}
    ids = [event["event_id"] for event in sent]
    assert len(ids) == len(set(ids)), "an error names the event that it belongs to"


def test_everything_the_adapter_can_build_is_valid() -> None:
    for agent, audio in itertools.product(AGENTS, FORMATS):
        check(realtime.session_update(agent, audio))
        check(realtime.session_update(agent, audio, SCHEMAS))
    for event in (
        json.loads(realtime.append(b"\xff" * 160)),
        realtime.response_create("greeting"),
        realtime.response_create("greeting", "Say hello."),
        realtime.response_cancel("resp_1"),
        realtime.truncate("item_1", 0),
        realtime.truncate("item_1", 1200),
        realtime.function_call("call_1", "lookup", '{"place":\n "Oslo"}'),
        realtime.function_output("call_1", '{"temp": 7}'),
        realtime.function_output("call_1", error_output("timeout", "It did not answer.")),
        *(realtime.message(role, "text") for role in ("system", "user", "assistant")),
    ):
        check(event)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "session.update", "session": {"type": "realtime", "voice": "marin"}},
        {"type": "session.update", "session": {"type": "realtime", "temperature": 0.8}},
        {"type": "response.create", "response": {"modalities": ["audio", "text"]}},
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}},
            },
        },
        {
            "type": "session.update",
            "session": {"type": "realtime", "audio": {"output": {"format": {"type": "audio/pcm"}}}},
        },
        {"type": "session.update", "session": {"instructions": "no type"}},
        {"type": "transcription_session.update", "session": {}},
    ],
)
def test_the_check_refuses_what_the_service_would_refuse(wrong: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(wrong)
