"""What each client event may hold: the eleven types, their fields, and the items they carry."""

import json
from typing import Any

from simulators.realtime.checks import (
    Check,
    any_of,
    anything,
    boolean,
    choice,
    each,
    integer,
    mapping,
    nullable,
    record,
    string,
    tagged,
)
from simulators.realtime.config import (
    AUDIO_FORMAT,
    MAX_OUTPUT_TOKENS,
    OUTPUT_MODALITIES,
    REASONING,
    TOOL_CHOICE,
    TOOLS,
    VOICE,
)
from simulators.realtime.refusal import Refusal

__all__ = ["APPEND_BYTES_MAX", "checked", "parsed"]

Json = dict[str, Any]

APPEND_BYTES_MAX = 15 * 2**20
"""OpenAI: up to 15 MiB of audio in one `input_audio_buffer.append`."""

_EVENT_ID_CHARS_MAX = 512  # OpenAI: "event_id" of a client event
_ID_CHARS_MAX = 32  # OpenAI: reported for item ids and call ids chosen by the client
_METADATA_PAIRS_MAX, _METADATA_KEY_CHARS_MAX, _METADATA_VALUE_CHARS_MAX = 16, 64, 512

_ID = string(_ID_CHARS_MAX)
_STATUS = choice("in_progress", "completed", "incomplete")
_INPUT_TEXT = record({"type": anything, "text": string()}, required=["text"])


def _message(content: Check) -> Check:
    return record(
        {
            "id": _ID,
            "object": choice("realtime.item"),
            "type": anything,
            "status": _STATUS,
            "role": anything,
            "phase": nullable(choice("commentary", "final_answer")),
            "content": each(content),
        },
        required=["content"],
    )


_MESSAGE = tagged(
    {
        "system": _message(tagged({"input_text": _INPUT_TEXT})),
        "user": _message(
            tagged(
                {
                    "input_text": _INPUT_TEXT,
                    "input_audio": record(
                        {"type": anything, "audio": string(), "transcript": nullable(string())},
                        required=["audio"],
                    ),
                    "input_image": record(
                        {
                            "type": anything,
                            "image_url": string(),
                            "detail": choice("auto", "low", "high"),
                        },
                        required=["image_url"],
                    ),
                }
            )
        ),
        # OpenAI: a client cannot create assistant audio, and the beta's content type `text`
        # is gone for assistants.
        "assistant": _message(tagged({"output_text": _INPUT_TEXT})),
    },
    tag="role",
)
_ITEMS: dict[str, Check] = {
    "message": _MESSAGE,
    "function_call": record(
        {
            "id": _ID,
            "object": choice("realtime.item"),
            "type": anything,
            "status": _STATUS,
            "name": string(),
            "call_id": _ID,
            "arguments": string(),
        },
        required=["name", "arguments"],
    ),
    "function_call_output": record(
        {
            "id": _ID,
            "object": choice("realtime.item"),
            "type": anything,
            "status": _STATUS,
            "call_id": _ID,
            "output": string(),
        },
        required=["call_id", "output"],
    ),
}
_REFERENCE = record({"type": anything, "id": string()}, required=["id"])

_RESPONSE = record(
    {
        "instructions": nullable(string()),
        "tools": nullable(TOOLS),
        "tool_choice": TOOL_CHOICE,
        "output_modalities": OUTPUT_MODALITIES,
        "audio": record({"output": record({"format": AUDIO_FORMAT, "voice": VOICE})}),
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "metadata": nullable(
            mapping(
                pairs_max=_METADATA_PAIRS_MAX,
                key_chars_max=_METADATA_KEY_CHARS_MAX,
                value=string(_METADATA_VALUE_CHARS_MAX),
            )
        ),
        "conversation": any_of(choice("auto", "none"), anything),
        "input": each(tagged({**_ITEMS, "item_reference": _REFERENCE})),
        "parallel_tool_calls": boolean,
        "reasoning": nullable(REASONING),
        "prompt": anything,
    }
)


def _event(fields: dict[str, Check], *, required: tuple[str, ...] = ()) -> Check:
    common = {"type": anything, "event_id": nullable(string(_EVENT_ID_CHARS_MAX))}
    return record({**common, **fields}, required=required)


def _not_on_this_transport(_value: Any, _path: str) -> None:
    # OpenAI: output_audio_buffer.* exists only for WebRTC and SIP.
    message = "output_audio_buffer.clear is only available for WebRTC and SIP connections."
    raise Refusal("invalid_value", message, "type")


_CLIENT_EVENT = tagged(
    {
        "session.update": _event({"session": anything}, required=("session",)),
        "input_audio_buffer.append": _event({"audio": string()}, required=("audio",)),
        "input_audio_buffer.commit": _event({}),
        "input_audio_buffer.clear": _event({}),
        "conversation.item.create": _event(
            {"item": tagged(_ITEMS), "previous_item_id": nullable(string())}, required=("item",)
        ),
        "conversation.item.retrieve": _event({"item_id": string()}, required=("item_id",)),
        "conversation.item.truncate": _event(
            {"item_id": string(), "content_index": integer(0), "audio_end_ms": integer(0)},
            required=("item_id", "content_index", "audio_end_ms"),
        ),
        "conversation.item.delete": _event({"item_id": string()}, required=("item_id",)),
        "response.create": _event({"response": nullable(_RESPONSE)}),
        "response.cancel": _event({"response_id": nullable(string())}),
        "output_audio_buffer.clear": _not_on_this_transport,
    }
)


def parsed(message: str | bytes) -> Json:
    """Return a client's frame as JSON, unchecked, or refuse it.

    OpenAI: a binary frame or text that is not JSON is an error, and the socket stays open.
    """
    if isinstance(message, bytes):
        raise Refusal(
            "invalid_event", "Expected a text WebSocket message; binary frames are not supported."
        )
    try:
        event = json.loads(message)
    except ValueError:
        raise Refusal("invalid_json", "The frame could not be read as JSON.") from None
    if not isinstance(event, dict):
        raise Refusal("invalid_event", "Expected a JSON object.")
    return event


def checked(event: Json) -> None:
    """Refuse a client event with a field too many, too few, or of the wrong kind."""
    _CLIENT_EVENT(event, "")
