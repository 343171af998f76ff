"""What a response costs, in tokens, by OpenAI's published rates.

OpenAI: 1 token per 100 ms of the caller, 1 per 50 ms of the assistant; every response takes the
whole conversation as its input, and the part that was input before is mostly cached.
"""

import dataclasses
import json
from typing import Any

from simulators.realtime.conversation import Conversation

__all__ = [
    "NOTHING",
    "InputCount",
    "Meter",
    "audio_tokens",
    "response_usage",
    "text_tokens",
    "transcription_usage",
]

Json = dict[str, Any]

CALLER_MS_PER_TOKEN = 100
ASSISTANT_MS_PER_TOKEN = 50
_CHARS_PER_TOKEN = 4
_CACHE_BLOCK_TOKENS = 64  # OpenAI: cached counts seen are multiples of 64
_ITEM_OVERHEAD_TOKENS = 4


def text_tokens(text: str) -> int:
    """Return the tokens of a text."""
    return -(-len(text) // _CHARS_PER_TOKEN)


def audio_tokens(audio_ms: float) -> int:
    """Return the tokens of the assistant's audio."""
    return -(-int(audio_ms) // ASSISTANT_MS_PER_TOKEN)


@dataclasses.dataclass(frozen=True)
class InputCount:
    """What goes into a response, and how much of it went into the one before."""

    text: int = 0
    audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0


class Meter:
    """Counts tokens for one session."""

    def __init__(self) -> None:
        self._before = InputCount()
        self._settings_before = ""

    def count_input(self, conversation: Conversation, config: Json) -> InputCount:
        """Count the input of a response that starts now, and remember it for the next."""
        settings = f"{config['instructions']}{json.dumps(config['tools'])}"
        text, audio = text_tokens(settings), 0.0
        for entry in conversation:
            text += _ITEM_OVERHEAD_TOKENS
            if entry.audio_ms:
                rate = CALLER_MS_PER_TOKEN if entry.role == "user" else ASSISTANT_MS_PER_TOKEN
                audio += entry.audio_ms / rate
            else:
                text += text_tokens(entry.text + entry.item.get("output", ""))
            text += text_tokens(entry.item.get("arguments", ""))
        warm = settings == self._settings_before and not conversation.prefix_broken
        now = InputCount(text=text, audio=int(audio))
        counted = dataclasses.replace(
            now,
            cached_text=_cached(self._before.text, now.text) if warm else 0,
            cached_audio=_cached(self._before.audio, now.audio) if warm else 0,
        )
        self._before, self._settings_before = now, settings
        conversation.prefix_broken = False
        return counted


def _cached(before: int, now: int) -> int:
    return min(before, now) // _CACHE_BLOCK_TOKENS * _CACHE_BLOCK_TOKENS


def response_usage(
    count: InputCount, *, text: int, audio: int, reasoning: int | None = None
) -> Json:
    """Return `response.usage`.

    OpenAI: cached tokens are part of the input; reasoning tokens are part of the output's text.
    """
    output_details: Json = {"text_tokens": text, "audio_tokens": audio}
    if reasoning is not None:
        output_details["reasoning_tokens"] = reasoning
    inputs, outputs = count.text + count.audio, text + audio
    return {
        "total_tokens": inputs + outputs,
        "input_tokens": inputs,
        "output_tokens": outputs,
        "input_token_details": {
            "text_tokens": count.text,
            "audio_tokens": count.audio,
            "image_tokens": 0,
            "cached_tokens": count.cached_text + count.cached_audio,
            "cached_tokens_details": {
                "text_tokens": count.cached_text,
                "audio_tokens": count.cached_audio,
                "image_tokens": 0,
            },
        },
        "output_token_details": output_details,
    }


NOTHING: Json = response_usage(InputCount(), text=0, audio=0)
"""The usage of a response that failed before it began."""


def transcription_usage(model: str, transcript: str, audio_ms: float) -> Json:
    """Return the `usage` of a caller's transcript.

    OpenAI: billed apart from the response; by tokens in the gpt-4o family, else by whole seconds.
    """
    if not model.startswith("gpt-4o"):
        return {"type": "duration", "seconds": round(audio_ms / 1000)}
    heard = int(audio_ms) // CALLER_MS_PER_TOKEN
    written = text_tokens(transcript)
    return {
        "type": "tokens",
        "total_tokens": heard + written,
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": written,
    }
