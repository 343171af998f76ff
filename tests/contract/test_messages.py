"""Every message on the bus: its example, its reading and writing, its private fields."""

import inspect
import json
import typing
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter, ValidationError

from shared import messages, subjects
from shared.messages import Event, Message

pytestmark = pytest.mark.contract


def all_messages() -> list[type[Message]]:
    """Every model that travels, bases left out."""
    found = [
        kind
        for _, kind in inspect.getmembers(messages, inspect.isclass)
        if issubclass(kind, Message) and kind not in (Message, Event)
    ]
    return sorted(found, key=lambda kind: kind.__name__)


MESSAGES = all_messages()
#: Unions that are read by their discriminator.
UNIONS = {name: value for name, value in vars(messages).items() if isinstance(value, TypeAdapter)}


def example(kind: type[Message]) -> dict[str, Any]:
    extra = kind.model_config.get("json_schema_extra")
    assert isinstance(extra, dict), f"{kind.__name__} has no example"
    examples = extra["examples"]
    assert isinstance(examples, list)
    first = examples[0]
    assert isinstance(first, dict)
    return typing.cast(dict[str, Any], first)


def members(adapter: TypeAdapter[Any]) -> list[type[Message]]:
    schema = adapter.json_schema()
    names = [one["$ref"].rsplit("/", 1)[1] for one in schema["oneOf"]]
    return [getattr(messages, name) for name in names]


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_every_message_has_an_example_that_survives_writing_and_reading(
    kind: type[Message],
) -> None:
    given_fields = example(kind)
    message = kind.model_validate(given_fields)
    assert kind.decode(message.encode()) == message
    unknown = set(given_fields) - set(kind.model_fields)
    assert not unknown, "an example shows fields that the message has"
    assert kind.__doc__, "a message says what it is"


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_fields_of_a_newer_version_are_ignored(kind: type[Message]) -> None:
    plain = kind.model_validate(example(kind))
    newer = {**json.loads(plain.encode()), "brand_new": {"a": [1]}}
    assert kind.decode(json.dumps(newer).encode()) == plain


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_message_cannot_be_changed(kind: type[Message]) -> None:
    message = kind.model_validate(example(kind))
    for name in kind.model_fields:
        with pytest.raises(ValidationError):
            setattr(message, name, getattr(message, name))


@pytest.mark.parametrize("name", UNIONS)
def test_every_member_of_a_union_is_found_by_its_discriminator(name: str) -> None:
    adapter = UNIONS[name]
    assert len(members(adapter)) > 1
    for kind in members(adapter):
        message = kind.model_validate(example(kind))
        assert adapter.validate_json(message.encode()) == message
        assert type(adapter.validate_json(message.encode())) is kind


@given(st.binary(max_size=60), st.sampled_from(sorted(UNIONS)))
def test_garbage_is_refused_by_a_validation_error_and_nothing_else(data: bytes, name: str) -> None:
    with pytest.raises(ValidationError):
        UNIONS[name].validate_json(data)


def tagged() -> set[type[Message]]:
    """Messages with a field of one value: they are read through a union."""
    return {
        kind
        for kind in MESSAGES
        for field in kind.model_fields.values()
        if len(typing.get_args(field.annotation)) == 1
        and field.default is not None
        and typing.get_origin(field.annotation) is typing.Literal
    }


def test_every_tagged_message_is_in_a_union() -> None:
    assert tagged() == {kind for adapter in UNIONS.values() for kind in members(adapter)}


# --- the story -----------------------------------------------------------------------------------


def test_every_event_is_in_the_list_of_the_story_with_a_name_of_its_own() -> None:
    kinds = [kind for kind in MESSAGES if issubclass(kind, Event)]
    assert set(messages.EVENTS) == set(kinds)
    names = [kind.NAME for kind in messages.EVENTS]
    assert len(names) == len(set(names))
    call = example(messages.CallStarted)["call"]
    for name in names:
        assert subjects.event(call, name).endswith(f".event.{name}")


# --- what is private -----------------------------------------------------------------------------

#: Fields that hold what a caller said, dialled or is called.  A new one must be put here, marked
#: `Private`, or given a name that cannot be mistaken for one.
PRIVATE = {"caller", "digit", "digits", "text"}


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_a_caller_said_or_dialled_is_marked_private_in_the_schema(kind: type[Message]) -> None:
    properties = kind.model_json_schema()["properties"]
    for name in PRIVATE & set(properties):
        assert properties[name].get("private") is True, f"{kind.__name__}.{name}"


def test_what_is_private_is_known_to_be() -> None:
    marked = {
        (kind.__name__, name)
        for kind in MESSAGES
        for name, shape in kind.model_json_schema()["properties"].items()
        if shape.get("private")
    }
    assert marked >= {
        ("CallOffered", "caller"),
        ("CallRecord", "caller"),
        ("DtmfPressed", "digit"),
        ("Interrupted", "text"),
        ("KeyPressed", "digit"),
        ("Offer", "caller"),
        ("ToolAnswered", "output"),
        ("ToolCalled", "arguments"),
        ("ToolContext", "caller"),
        ("ToolRequest", "arguments"),
        ("Transcript", "text"),
    }


# --- golden --------------------------------------------------------------------------------------


def test_messages_are_written_as_they_always_were() -> None:
    call = "CA0123456789abcdef0123456789abcdef"
    attach = messages.AttachLeg(gateway="gw-1", stream="MZ01")
    assert attach.encode() == (
        b'{"do":"attach_leg","gateway":"gw-1","stream":"MZ01","audio":"pcmu","note":""}'
    )
    assert messages.Mark(name="0.3.200").encode() == b'{"type":"mark","name":"0.3.200"}'
    taken = messages.OfferTaken(call=call, worker="w-7f3a", epoch=1, agent="default")
    assert json.loads(taken.encode()) == {
        "answer": "taken",
        "call": call,
        "worker": "w-7f3a",
        "epoch": 1,
        "agent": "default",
    }
    cut = messages.Interrupted.model_validate(example(messages.Interrupted))
    assert json.loads(cut.encode()) == {
        "call": call,
        "epoch": 1,
        "at": "2026-11-22T10:00:00Z",
        "ms": 1200,
        "item": "item_B",
        "heard_ms": 1340,
        "sent_ms": 2800,
        "text": "We are open",
    }


def test_the_limits_that_keep_a_message_small_hold() -> None:
    for kind, fields in (
        (messages.Mark, {"name": "x" * 129}),
        (messages.HangUp, {"reason": "x" * 65}),
        (messages.AttachLeg, {"gateway": "x" * 65, "stream": "MZ"}),
        (messages.DtmfPressed, {"digit": "12"}),
        (messages.Offer, {"call": "CA*", "gateway": "gw"}),
        (messages.AgentSettings, {"id": "a.b"}),
        (messages.AgentSettings, {"instructions": "x" * 64_001}),
    ):
        with pytest.raises(ValidationError):
            kind.model_validate(fields)
