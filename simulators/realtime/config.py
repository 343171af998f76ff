"""The session's configuration: its defaults, what an update may say, and what it then becomes."""

import copy
from typing import Any

from simulators.realtime.checks import (
    Check,
    any_of,
    anything,
    boolean,
    choice,
    each,
    integer,
    nullable,
    number,
    record,
    string,
    tagged,
)
from simulators.realtime.refusal import Refusal

__all__ = [
    "AUDIO_FORMAT",
    "MAX_OUTPUT_TOKENS",
    "OUTPUT_MODALITIES",
    "PCM",
    "REASONING",
    "TOOLS",
    "TOOL_CHOICE",
    "VOICE",
    "bytes_per_ms",
    "default_session",
    "has_phases",
    "updated_session",
]

Json = dict[str, Any]

PCM: Json = {"type": "audio/pcm", "rate": 24000}

_NON_REASONING_PREFIXES = ("gpt-realtime-1.5", "gpt-realtime-mini", "gpt-realtime-2025")

_DEFAULT_INSTRUCTIONS = (
    "You are a helpful, witty and friendly AI. Act like a human, but remember that you are not. "
    "(The simulated server's own default prompt, until session.update replaces it.)"
)

_VOICES = (
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
)

# --- What each field may be ------------------------------------------------------------------

# OpenAI: mu-law and A-law have no `rate`; PCM must have one. The published types accept both
# mistakes, the service refuses the whole update.
AUDIO_FORMAT: Check = tagged(
    {
        "audio/pcmu": record({"type": anything}),
        "audio/pcma": record({"type": anything}),
        "audio/pcm": record({"type": anything, "rate": integer(24000, 24000)}, required=["rate"]),
    }
)
VOICE: Check = any_of(choice(*_VOICES), record({"id": string()}, required=["id"]))
MAX_OUTPUT_TOKENS: Check = any_of(choice("inf"), integer(1, 4096))
REASONING: Check = record({"effort": choice("minimal", "low", "medium", "high", "xhigh")})
TOOL_CHOICE: Check = any_of(
    choice("auto", "none", "required"),
    tagged(
        {
            "function": record({"type": anything, "name": string()}, required=["name"]),
            "mcp": record(
                {"type": anything, "server_label": string(), "name": nullable(string())},
                required=["server_label"],
            ),
        }
    ),
)
# OpenAI: the flat shape only; a nested `function` object and `strict` are unknown parameters.
TOOLS: Check = each(
    tagged(
        {
            "function": record(
                {
                    "type": anything,
                    "name": string(),
                    "description": string(),
                    "parameters": anything,
                },
                required=["name"],
            ),
            "mcp": record(
                {
                    "type": anything,
                    "server_label": string(),
                    "server_url": string(),
                    "connector_id": string(),
                    "tunnel_id": string(),
                    "authorization": string(),
                    "headers": anything,
                    "allowed_tools": anything,
                    "require_approval": anything,
                    "server_description": string(),
                    "defer_loading": boolean,
                    "allowed_callers": anything,
                },
                required=["server_label"],
            ),
        }
    )
)


def OUTPUT_MODALITIES(value: Any, path: str) -> None:  # noqa: N802 - a check like its neighbours
    """Accept audio or text; OpenAI: not both, as audio always brings its transcript."""
    each(choice("audio", "text"))(value, path)
    if len(value) != 1:
        raise Refusal(
            "invalid_value",
            f"Invalid modalities: {value}. Supported combinations are: ['text'] and ['audio'].",
            path,
        )


_TURN_DETECTION = tagged(
    {
        "server_vad": record(
            {
                "type": anything,
                "threshold": nullable(number(0, 1)),
                "prefix_padding_ms": nullable(integer(0)),
                "silence_duration_ms": nullable(integer(0)),
                "idle_timeout_ms": nullable(integer(5000, 30000)),
                "create_response": nullable(boolean),
                "interrupt_response": nullable(boolean),
            }
        ),
        # OpenAI: silence_duration_ms and idle_timeout_ms belong to server_vad only.
        "semantic_vad": record(
            {
                "type": anything,
                "eagerness": nullable(choice("low", "medium", "high", "auto")),
                "create_response": nullable(boolean),
                "interrupt_response": nullable(boolean),
            }
        ),
    }
)
_TRANSCRIPTION = record(
    {
        "model": choice(
            "gpt-transcribe",
            "gpt-live-transcribe",
            "gpt-realtime-whisper",
            "whisper-1",
            "gpt-4o-transcribe",
            "gpt-4o-transcribe-diarize",
            "gpt-4o-mini-transcribe",
            "gpt-4o-mini-transcribe-2025-12-15",
        ),
        "language": nullable(string()),
        "languages": nullable(each(string())),
        "keywords": nullable(each(string())),
        "prompt": nullable(string()),
        "delay": nullable(choice("minimal", "low", "medium", "high", "xhigh")),
    },
    required=["model"],
)
_TRUNCATION = any_of(
    choice("auto", "disabled"),
    tagged(
        {
            "retention_ratio": record(
                {
                    "type": anything,
                    "retention_ratio": number(0, 1),
                    "token_limits": nullable(record({"post_instructions": integer(0)})),
                },
                required=["retention_ratio"],
            )
        }
    ),
)
_REALTIME = record(
    {
        "type": anything,
        "model": string(),
        "instructions": nullable(string()),
        "output_modalities": OUTPUT_MODALITIES,
        "audio": record(
            {
                "input": record(
                    {
                        "format": AUDIO_FORMAT,
                        "noise_reduction": nullable(
                            record(
                                {
                                    "type": choice("near_field", "far_field"),
                                    "strength": nullable(number(0)),
                                },
                                required=["type"],
                            )
                        ),
                        "transcription": nullable(_TRANSCRIPTION),
                        "turn_detection": nullable(_TURN_DETECTION),
                    }
                ),
                "output": record(
                    {"format": AUDIO_FORMAT, "voice": VOICE, "speed": number(0.25, 1.5)}
                ),
            }
        ),
        "tools": nullable(TOOLS),
        "tool_choice": TOOL_CHOICE,
        "parallel_tool_calls": boolean,
        "reasoning": nullable(REASONING),
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "truncation": _TRUNCATION,
        "tracing": nullable(
            any_of(
                choice("auto"),
                record({"workflow_name": string(), "group_id": string(), "metadata": anything}),
            )
        ),
        "include": nullable(each(choice("item.input_audio_transcription.logprobs"))),
        "prompt": nullable(
            record(
                {"id": string(), "version": nullable(string()), "variables": anything},
                required=["id"],
            )
        ),
    }
)


def _other_session_type(value: Any, path: str) -> None:
    raise Refusal(
        "invalid_value",
        "Passing a transcription session update event to a realtime session is not allowed.",
        f"{path}.type",
    )


_UPDATE = tagged({"realtime": _REALTIME, "transcription": _other_session_type})

# --- What a session is -----------------------------------------------------------------------


def bytes_per_ms(audio_format: Json) -> int:
    """Return how many bytes of this format last one millisecond."""
    return 48 if audio_format["type"] == "audio/pcm" else 8


def has_phases(model: str) -> bool:
    """Say whether messages of this model carry `phase`; OpenAI: those of the 2.1 family do."""
    return _reasons(model)


def _reasons(model: str) -> bool:
    return model != "gpt-realtime" and not model.startswith(_NON_REASONING_PREFIXES)


def default_session(*, model: str, session_id: str, expires_at: int) -> Json:
    """Return the configuration of a session nobody has updated yet."""
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": _DEFAULT_INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": expires_at,
        "audio": {
            "input": {
                "format": dict(PCM),
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": _default_turn_detection("server_vad", model),
            },
            "output": {
                "format": dict(PCM),
                "voice": "marin" if _reasons(model) else "alloy",
                "speed": 1.0,
            },
        },
        "include": None,
    }


def _default_turn_detection(kind: str, model: str) -> Json:
    if kind == "semantic_vad":
        return {
            "type": "semantic_vad",
            "eagerness": "auto",
            "create_response": True,
            "interrupt_response": True,
        }
    return {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        # OpenAI: documented as 500, observed as 200 on the older models.
        "silence_duration_ms": 500 if _reasons(model) else 200,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }


def updated_session(session: Json, update: Any, *, has_assistant_audio: bool) -> Json:
    """Return the configuration after `update`, or raise `Refusal` for the whole of it.

    OpenAI: only the fields present change; one bad field and nothing does.
    """
    _UPDATE(update, "session")
    _refuse_other_model(session, update)
    changed = copy.deepcopy(session)
    for key, value in copy.deepcopy(update).items():
        if key == "audio":
            _update_audio(changed, value)
        elif key == "instructions":
            changed[key] = value or ""
        elif key == "tools":
            changed[key] = value or []
        else:
            changed[key] = value
    voice_changed = changed["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]
    if voice_changed and has_assistant_audio:
        raise Refusal(
            "cannot_update_voice",
            "Cannot update a conversation's voice if assistant audio is present.",
        )
    return changed


def _refuse_other_model(session: Json, update: Json) -> None:
    model = session["model"]
    if update.get("model", model) != model:
        raise Refusal("invalid_value", "The session's model cannot be changed.", "session.model")
    if update.get("reasoning") and not _reasons(model):
        # OpenAI: this one error names neither the parameter nor the event.
        message = f"Reasoning is not supported by model {model}."
        raise Refusal("unsupported_parameter", message, names_event=False)


def _update_audio(changed: Json, update: Json) -> None:
    for direction, fields in update.items():
        settings = changed["audio"][direction]
        for key, value in fields.items():
            if key == "turn_detection" and value is not None:
                settings[key] = _turn_detection(settings[key], value, changed["model"])
            elif key == "transcription" and value is not None:
                settings[key] = {"prompt": None, **value}
            else:
                settings[key] = value


def _turn_detection(before: Json | None, update: Json, model: str) -> Json:
    kind = update["type"]
    base = before if before and before["type"] == kind else _default_turn_detection(kind, model)
    defaults = _default_turn_detection(kind, model)
    given = {k: defaults[k] if v is None else v for k, v in update.items()}
    return {**base, **given}
