"""OpenAI's Realtime API (GA), translated: client events out, server events in, errors judged.

The only module that knows the vendor's names.  Facts: the GA interface as of November 2026 (the
beta, `OpenAI-Beta: realtime=v1`, is switched off and refused).

Pure: no I/O.
"""

import binascii
import enum
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from services.session import events
from services.session.events import ModelEvent
from shared.audio import FormatName
from shared.logs import scrub
from shared.messages import AgentSettings, Tokens

#: OpenAI: mu-law has no rate key, PCM requires one; a wrong one rejects the whole update.
FORMATS: Final[dict[FormatName, dict[str, Any]]] = {
    "pcmu": {"type": "audio/pcmu"},
    "pcm24k": {"type": "audio/pcm", "rate": 24000},
}

#: `input_audio_buffer.append` around base64, joined without a JSON encoder: 50 times a second.
APPEND_HEAD: Final = b'{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL: Final = b'"}'

_DELTA: Final = b'"response.output_audio.delta"'
_RESPONSE_ID: Final = b'"response_id":"'
_ITEM_ID: Final = b'"item_id":"'
_PAYLOAD: Final = b'"delta":"'


class MalformedEvent(ValueError):  # noqa: N818 - a fact about the peer, like the events
    """The service sent something that is not one of its events."""


# --- out -----------------------------------------------------------------------------------------


def url_for(base: str, model: str) -> str:
    """`base` with `model` in its query; other query parameters are kept."""
    parts = urlsplit(base)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "model"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("model", model)])))


def headers_for(base: str, key: str) -> dict[str, str]:
    """OpenAI takes a bearer token, Azure an `api-key`; the beta header must not be sent."""
    host = urlsplit(base).hostname or ""
    if host.endswith(".azure.com"):
        return {"api-key": key}
    return {"Authorization": f"Bearer {key}"}


def append(audio: bytes) -> bytes:
    """`input_audio_buffer.append` as the UTF-8 of its JSON text."""
    return APPEND_HEAD + binascii.b2a_base64(audio, newline=False) + APPEND_TAIL


def session_update(
    agent: AgentSettings, audio: FormatName, tools: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The whole configuration in one event; `tools` are function schemas.

    OpenAI: any bad field rejects all of it, and the session would then talk with its defaults.
    """
    fmt = FORMATS[audio]
    # What is off is left out: a new session has neither noise reduction nor transcription.
    speech_in: dict[str, Any] = {"format": fmt, "turn_detection": _turn_detection(agent)}
    if agent.noise_reduction:
        speech_in["noise_reduction"] = {"type": agent.noise_reduction}
    if agent.transcription_model:
        speech_in["transcription"] = {"model": agent.transcription_model}
        if agent.language:
            speech_in["transcription"]["language"] = agent.language
    return {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "instructions": agent.instructions,
            "output_modalities": ["audio"],
            "audio": {
                "input": speech_in,
                # OpenAI: the voice is fixed after the first audio; always set it before.
                "output": {"format": fmt, "voice": agent.voice, "speed": agent.speed},
            },
            "tools": list(tools),
            "tool_choice": "auto",
            "max_output_tokens": agent.max_output_tokens or "inf",
        },
    }


def _turn_detection(agent: AgentSettings) -> dict[str, Any]:
    turns = agent.turn_detection
    common = {"type": turns.type, "create_response": True, "interrupt_response": True}
    if turns.type == "semantic_vad":
        return {**common, "eagerness": turns.eagerness}
    return {
        **common,
        "threshold": turns.threshold,
        "prefix_padding_ms": turns.prefix_padding_ms,
        # Set explicitly: the default differs between models (200 and 500 ms were observed).
        "silence_duration_ms": turns.silence_duration_ms,
        "idle_timeout_ms": turns.idle_timeout_ms,
    }


def response_create(purpose: str, instructions: str | None = None) -> dict[str, Any]:
    """Ask for a response; `purpose` comes back in its metadata.

    OpenAI: `instructions` replaces the session's for this response, so pass them joined.
    """
    response: dict[str, Any] = {"metadata": {"purpose": purpose}}
    if instructions is not None:
        response["instructions"] = instructions
    return {"type": "response.create", "response": response}


def response_cancel(response: str) -> dict[str, Any]:
    """Stop a running response.  OpenAI: always name it, or the next one may be hit."""
    return {"type": "response.cancel", "response_id": response}


def truncate(item: str, heard_ms: int) -> dict[str, Any]:
    """Cut an assistant's audio item to what was heard."""
    return {
        "type": "conversation.item.truncate",
        "item_id": item,
        "content_index": 0,
        "audio_end_ms": heard_ms,
    }


def message(role: str, text: str) -> dict[str, Any]:
    """An item of replayed history.  OpenAI: assistant audio cannot be created, only its text."""
    kind = "output_text" if role == "assistant" else "input_text"
    return {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": role, "content": [{"type": kind, "text": text}]},
    }


def function_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """An item of replayed history: the model called a function."""
    return {
        "type": "conversation.item.create",
        "item": {
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        },
    }


def function_output(call_id: str, output: str) -> dict[str, Any]:
    """The output of a function call.  OpenAI: nothing is said without a `response.create`."""
    return {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": call_id, "output": output},
    }


# --- in ------------------------------------------------------------------------------------------


def parse(raw: bytes) -> ModelEvent | None:
    """One frame from the service; None for events that mean nothing to a phone call.

    Audio deltas are cut out of the bytes without a JSON parser (they are nine tenths of the
    traffic); anything unusual falls back to it.  Raises `MalformedEvent`.
    """
    if _DELTA in raw[:64]:
        event = _parse_delta(raw)
        if event is not None:
            return event
    try:
        data = json.loads(raw)
        kind = data["type"]
        reader = _READERS.get(kind)
        return reader(data) if reader is not None else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedEvent(f"{type(error).__name__} in an event of {len(raw)} bytes") from error


def _parse_delta(raw: bytes) -> events.AudioReceived | None:
    response_at = raw.find(_RESPONSE_ID)
    item_at = raw.find(_ITEM_ID)
    payload_at = raw.find(_PAYLOAD)
    if min(response_at, item_at, payload_at) < 0:
        return None
    response_at += len(_RESPONSE_ID)
    item_at += len(_ITEM_ID)
    payload_at += len(_PAYLOAD)
    try:
        response = raw[response_at : raw.index(b'"', response_at)]
        item = raw[item_at : raw.index(b'"', item_at)]
        payload = raw[payload_at : raw.index(b'"', payload_at)]
        if b"\\" in payload or b"\\" in item or b"\\" in response:
            return None  # some encoders escape the slash
        return events.AudioReceived(response.decode(), item.decode(), binascii.a2b_base64(payload))
    except ValueError:
        return None


def _text(value: object) -> str:
    """A string that can be written as UTF-8; raises `TypeError` for anything else.

    JSON can carry half a character (a lone surrogate), where an emoji was cut in two.
    """
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {type(value).__name__}")
    if value.isascii():
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _said(value: object) -> str:
    """What the service says in words, or nothing.

    OpenAI: its authentication errors quote parts of the key, so keys are masked here.
    """
    return scrub(_text(value)) if isinstance(value, str) else ""


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {type(value).__name__}")
    return value


def _audio_delta(data: dict[str, Any]) -> ModelEvent:
    return events.AudioReceived(
        _text(data["response_id"]), _text(data["item_id"]), binascii.a2b_base64(data["delta"])
    )


def _session_updated(data: dict[str, Any]) -> ModelEvent:
    audio = data["session"]["audio"]
    return events.SessionUpdated(
        _object(audio["input"]["format"]), _object(audio["output"]["format"])
    )


def _response_started(data: dict[str, Any]) -> ModelEvent:
    response = data["response"]
    metadata = response.get("metadata") or {}
    return events.ResponseStarted(_text(response["id"]), _said(metadata.get("purpose")))


def _response_finished(data: dict[str, Any]) -> ModelEvent:
    response = data["response"]
    details = response.get("status_details") or {}
    error = details.get("error") or {}
    return events.ResponseFinished(
        _text(response["id"]),
        _text(response["status"]),
        _said(error.get("code") or error.get("type") or details.get("reason")),
        _said(error.get("message")),
        _tokens(response.get("usage")),
    )


def _errored(data: dict[str, Any]) -> ModelEvent:
    error = data["error"]
    return events.ModelErrored(
        _said(error.get("code") or error.get("type")) or "unknown",
        _said(error.get("message")),
        _said(error.get("param")),
        _said(error.get("event_id")),
    )


def _caller_transcript(data: dict[str, Any]) -> ModelEvent:
    usage = data.get("usage")
    kind = usage.get("type") if isinstance(usage, dict) else None
    return events.CallerTranscript(
        _text(data["item_id"]),
        _text(data["transcript"]),
        _tokens(usage) if kind == "tokens" else Tokens(),
        _seconds(usage) if kind == "duration" else 0.0,
    )


def _transcript_failed(data: dict[str, Any]) -> ModelEvent:
    error = data.get("error") or {}
    return events.ModelErrored(
        "transcription_failed", _said(error.get("message")), _said(error.get("code")), ""
    )


def _seconds(usage: object) -> float:
    seconds = usage.get("seconds") if isinstance(usage, dict) else None
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        return max(0.0, float(seconds))
    return 0.0


def _tokens(usage: object) -> Tokens:
    """Tokens by kind.  OpenAI: `usage` may be null; cached tokens are part of the input.

    A bill that makes no sense counts as none: what it came with matters more.
    """
    given = _part(usage, "input_token_details")
    cached = _part(given, "cached_tokens_details")
    made = _part(usage, "output_token_details")
    return Tokens(
        text_in=_count(given, "text_tokens"),
        cached_text_in=_count(cached, "text_tokens"),
        # Without details (transcription models): all input is audio, all output text.
        audio_in=_count(given, "audio_tokens") if given else _count(usage, "input_tokens"),
        cached_audio_in=_count(cached, "audio_tokens"),
        image_in=_count(given, "image_tokens"),
        cached_image_in=_count(cached, "image_tokens"),
        text_out=_count(made, "text_tokens") if made else _count(usage, "output_tokens"),
        audio_out=_count(made, "audio_tokens"),
    )


def _part(data: object, name: str) -> dict[str, Any]:
    part = data.get(name) if isinstance(data, dict) else None
    return part if isinstance(part, dict) else {}


def _count(data: object, name: str) -> int:
    count = data.get(name) if isinstance(data, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _item_finished(data: dict[str, Any]) -> ModelEvent | None:
    """OpenAI: dispatch here and only when completed; the other events repeat interrupted calls."""
    item = data["item"]
    if item["type"] != "function_call" or item.get("status") != "completed":
        return None
    return events.FunctionCalled(
        _text(data["response_id"]),
        _text(item["call_id"]),
        _text(item["name"]),
        _text(item.get("arguments") or ""),
    )


def _item_added(data: dict[str, Any]) -> ModelEvent | None:
    item = data["item"]
    if item["type"] != "function_call_output":
        return None
    return events.OutputTaken(_text(item["call_id"]))


_READERS: Final[dict[str, Callable[[dict[str, Any]], ModelEvent | None]]] = {
    "session.created": lambda data: events.SessionCreated(),
    "session.updated": _session_updated,
    "input_audio_buffer.speech_started": lambda data: events.SpeechStarted(_text(data["item_id"])),
    "input_audio_buffer.speech_stopped": lambda data: events.SpeechStopped(_text(data["item_id"])),
    "response.created": _response_started,
    "response.done": _response_finished,
    "response.output_audio.delta": _audio_delta,
    "response.output_audio.done": lambda data: events.AudioCompleted(
        _text(data["response_id"]), _text(data["item_id"])
    ),
    "response.output_item.done": _item_finished,
    "conversation.item.added": _item_added,
    "response.output_audio_transcript.delta": lambda data: events.AgentTranscript(
        _text(data["response_id"]), _text(data["item_id"]), _text(data["delta"]), final=False
    ),
    "response.output_audio_transcript.done": lambda data: events.AgentTranscript(
        _text(data["response_id"]), _text(data["item_id"]), _text(data["transcript"]), final=True
    ),
    "conversation.item.input_audio_transcription.completed": _caller_transcript,
    "conversation.item.input_audio_transcription.failed": _transcript_failed,
    "error": _errored,
}


def same_format(reported: dict[str, Any], audio: FormatName) -> bool:
    """Whether the service will use the call's format (it may add fields of its own)."""
    wanted = FORMATS[audio]
    return all(reported.get(key) == value for key, value in wanted.items())


# --- errors --------------------------------------------------------------------------------------


class Reaction(enum.StrEnum):
    """What an error asks for.  OpenAI: branch on `code`, never on the message."""

    IGNORE = "ignore"
    #: A response runs already: ours is asked for again when it is done.
    WAIT_FOR_RESPONSE = "wait_for_response"
    #: Passing trouble: try the response again.
    RETRY = "retry"
    #: This socket is used up: dial again and replay.
    REDIAL = "redial"
    #: The configuration or the account is wrong: no retry helps.
    GIVE_UP = "give_up"
    #: We sent something wrong: a bug, logged loudly; the call goes on.
    REPORT = "report"


_REACTIONS: Final = {
    "conversation_already_has_active_response": Reaction.WAIT_FOR_RESPONSE,
    "response_cancel_not_active": Reaction.IGNORE,
    "input_audio_buffer_commit_empty": Reaction.IGNORE,
    "transcription_failed": Reaction.IGNORE,
    "rate_limit_exceeded": Reaction.RETRY,
    "inference_rate_limit_exceeded": Reaction.RETRY,
    "server_error": Reaction.RETRY,
    "session_expired": Reaction.REDIAL,
    "invalid_api_key": Reaction.GIVE_UP,
    "invalid_model": Reaction.GIVE_UP,
    "missing_model": Reaction.GIVE_UP,
    "beta_api_shape_disabled": Reaction.GIVE_UP,
    "insufficient_quota": Reaction.GIVE_UP,
    "billing_hard_limit_reached": Reaction.GIVE_UP,
    "account_deactivated": Reaction.GIVE_UP,
}


def reaction(code: str, param: str = "") -> Reaction:
    """What to do about an error with this code."""
    if code == "invalid_value" and param == "audio_end_ms":
        return Reaction.IGNORE  # truncated beyond the audio: we clamp, so it is a race at worst
    return _REACTIONS.get(code, Reaction.REPORT)


def close_is_final(code: int) -> bool:
    """OpenAI: 3000 and 4000 are configuration errors; every other close is worth a new dial."""
    return code in (3000, 4000)
