"""One response: planned in full when it starts, played beat by beat, cut off at any beat.

OpenAI: a response is a fixed order of events (`response.created`, items and parts begin, deltas,
parts and items end, `response.done`); when it is cancelled, what has begun still ends, as
`incomplete`, and `response.done` is always last.
"""

import base64
import copy
import dataclasses
import functools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from simulators.realtime import speaking, usage
from simulators.realtime.config import bytes_per_ms
from simulators.realtime.conversation import Conversation, Entry
from simulators.realtime.director import Line
from simulators.realtime.ids import Ids
from simulators.realtime.script import Call

__all__ = ["Response", "Settings"]

Json = dict[str, Any]

_TEXT_LEAD = 0.7
"""The transcript is finished when this part of the audio is. OpenAI: usually ahead of the audio."""

_TEXT_DELTA_MS = 15
_ARGUMENTS_DELTA_MS = 8
_REASONING_TOKENS = 14
"""OpenAI: `reasoning_tokens` appear only when there were any; here, when a tool was chosen."""

_LATE_DELTAS_MAX = 2


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the response is asked to be: the session's settings and the request's, merged."""

    id: str
    conversation_id: str | None
    modality: str  # "audio" or "text"
    audio_format: Json
    voice: Any
    max_output_tokens: int | str
    metadata: Json | None
    generation_speed: float
    with_phase: bool


@dataclasses.dataclass(eq=False)
class _Output:
    """One output item: what has been sent of it."""

    index: int
    entry: Entry
    call: Call | None = None
    previous_id: str | None = None
    text: str = ""  # transcript, text or arguments, as far as sent
    audio_ms: float = 0.0
    open: bool = False

    @property
    def item(self) -> Json:
        return self.entry.item


class Response:
    """Yields the events of one response as their time comes."""

    def __init__(
        self,
        settings: Settings,
        line: Line,
        conversation: Conversation | None,
        *,
        count: usage.InputCount,
        ids: Ids,
        rng: random.Random,
        now: float,
        stall_ms: int = 0,
    ) -> None:
        self.id = settings.id
        self.done = False
        self.audio_ms = 0.0
        """The length of the audio sent so far."""

        self._settings = settings
        self._line = line
        self._conversation = conversation  # None: out of band
        self._count = count
        self._ids = ids
        self._rng = rng
        self._outputs: list[_Output] = []
        self._beats: deque[tuple[float, Callable[[], list[Json]]]] = deque()
        self._unsent_audio: deque[bytes] = deque()
        self._cut_short = False  # by max_output_tokens
        self._starts_at = now + (line.think_ms + stall_ms) / 1000
        self._plan()

    # --- What happens -------------------------------------------------------------------

    @property
    def next_at(self) -> float | None:
        """When the next events are due; `None` when the response is over."""
        return self._beats[0][0] if self._beats and not self.done else None

    def created(self) -> Json:
        """Return `response.created`."""
        return {"type": "response.created", "response": self._snapshot("in_progress")}

    def play(self) -> list[Json]:
        """Return the next events, whose time has come."""
        _at, beat = self._beats.popleft()
        return beat()

    def cancel(self, reason: str) -> list[Json]:
        """End early; return the events that say so."""
        details = {"type": "cancelled", "reason": reason}
        return self._end("cancelled", details)

    def fail(self, error: Json) -> None:
        """Let it end `failed`, without output, instead of what was planned."""
        details = {"type": "failed", "error": error}
        beat = functools.partial(self._end, "failed", details)
        self._beats = deque([(self._starts_at, beat)])

    def late_deltas(self) -> list[tuple[Json, float]]:
        """Return audio that was on its way when the response was cancelled, with its ms.

        OpenAI: deltas of a cancelled response occur after the interruption. They are part of the
        item on the server's side, so truncation may name them.
        """
        spoken = next((output for output in self._outputs if output.audio_ms), None)
        if spoken is None:
            return []
        late: list[tuple[Json, float]] = []
        for _ in range(min(len(self._unsent_audio), self._rng.randint(1, _LATE_DELTAS_MAX))):
            before_ms = self.audio_ms
            event = self._audio_delta_event(spoken, self._unsent_audio.popleft())
            late.append((event, self.audio_ms - before_ms))
        return late

    @property
    def tokens(self) -> int:
        """What it has cost so far."""
        return int(self._usage("completed")["total_tokens"])

    # --- The plan -----------------------------------------------------------------------

    def _plan(self) -> None:
        line, at = self._line, self._starts_at
        said = self._planned_text()
        message = None
        if line.say:
            message = self._output(None)
            self._beat(at, self._open_message, message)
            if self._settings.modality == "audio":
                at = self._plan_audio(message, said, at)
            else:
                at = self._plan_text(message, said, at)
        for call in line.calls if not self._cut_short else ():
            output = self._output(call)
            self._beat(at, self._open, output)
            for piece in _argument_pieces(call.arguments_text()):
                at += _ARGUMENTS_DELTA_MS / 1000
                self._beat(at, self._arguments_delta, output, piece)
            if message is not None:
                # OpenAI: the call begins before the message that precedes it is done.
                self._beat(at, self._close, message, "completed")
                message = None
            self._beat(at, self._close, output, "completed")
        status = "incomplete" if self._cut_short else "completed"
        if message is not None:
            self._beat(at, self._close, message, status)
        details = {"type": "incomplete", "reason": "max_output_tokens"}
        self._beat(at, self._end, status, details if self._cut_short else None)
        self._beats = deque(sorted(self._beats, key=lambda beat: beat[0]))  # stable

    def _beat(self, at: float, method: Callable[..., list[Json]], *args: Any) -> None:
        self._beats.append((at, functools.partial(method, *args)))

    def _planned_text(self) -> str:
        """Return what may be said within `max_output_tokens`."""
        text, tokens_max = self._line.say, self._settings.max_output_tokens
        if not isinstance(tokens_max, int) or not text:
            return text
        tokens = usage.text_tokens(text)
        if self._settings.modality == "audio":
            audio = self._rendered(text)
            tokens += usage.audio_tokens(len(audio) / bytes_per_ms(self._settings.audio_format))
        if tokens <= tokens_max:
            return text
        self._cut_short = True
        words = text.split(" ")
        return " ".join(words[: max(1, len(words) * tokens_max // tokens)])

    def _plan_text(self, message: _Output, text: str, at: float) -> float:
        for piece in speaking.text_pieces(text, self._rng):
            at += _TEXT_DELTA_MS / 1000
            self._beat(at, self._text_delta, message, piece)
        return at

    def _plan_audio(self, message: _Output, text: str, at: float) -> float:
        audio_format, speed = self._settings.audio_format, self._settings.generation_speed
        audio = self._rendered(text)
        self._unsent_audio = deque(speaking.audio_pieces(audio, audio_format, self._rng))
        length_s = len(audio) / bytes_per_ms(audio_format) / 1000 / speed
        words = speaking.text_pieces(text, self._rng)
        for index, piece in enumerate(words):
            when = at + _TEXT_LEAD * length_s * index / len(words)
            self._beat(when, self._text_delta, message, piece)
        for chunk in self._unsent_audio:
            at += len(chunk) / bytes_per_ms(audio_format) / 1000 / speed
            self._beat(at, self._audio_delta, message)
        return at

    def _rendered(self, text: str) -> bytes:
        return speaking.render(
            text,
            voice=self._settings.voice,
            audio_format=self._settings.audio_format,
            audio_ms=None if self._cut_short else self._line.audio_ms,
        )

    def _output(self, call: Call | None) -> _Output:
        """Declare an output item; it enters the conversation when it opens."""
        item: Json = {"id": self._ids.new("item"), "type": "message", "status": "in_progress"}
        if call is None:
            item |= {"role": "assistant", "content": []}
            if self._settings.with_phase:
                item["phase"] = self._line.phase
        else:
            item |= {"type": "function_call", "name": call.name}
            item |= {"call_id": self._ids.new("call"), "arguments": ""}
        return _Output(index=-1, entry=Entry(item), call=call)

    # --- The beats ----------------------------------------------------------------------

    def _open(self, output: _Output) -> list[Json]:
        output.index = len(self._outputs)
        output.open = True
        self._outputs.append(output)
        # OpenAI: clients must live with fields they do not know.
        events = [self._of_item("response.output_item.added", output, unlisted="ignore me")]
        if self._conversation is not None:
            output.previous_id = self._conversation.append(output.entry)
            events.append(self._in_conversation("conversation.item.added", output))
        return events

    def _open_message(self, output: _Output) -> list[Json]:
        events = self._open(output)
        part = self._part("")
        return [*events, self._of_part("response.content_part.added", output, part=part)]

    def _text_delta(self, output: _Output, piece: str) -> list[Json]:
        output.text += piece
        name = "output_audio_transcript" if self._is_audio else "output_text"
        padding = self._ids.obfuscation()
        return [self._of_part(f"response.{name}.delta", output, delta=piece, obfuscation=padding)]

    def _audio_delta(self, output: _Output) -> list[Json]:
        return [self._audio_delta_event(output, self._unsent_audio.popleft())]

    def _audio_delta_event(self, output: _Output, chunk: bytes) -> Json:
        length_ms = len(chunk) / bytes_per_ms(self._settings.audio_format)
        output.audio_ms += length_ms
        output.entry.audio_ms += length_ms
        self.audio_ms += length_ms
        if self._conversation is not None:
            self._conversation.has_assistant_audio = True
        delta = base64.b64encode(chunk).decode()
        return self._of_part("response.output_audio.delta", output, delta=delta)

    def _arguments_delta(self, output: _Output, piece: str) -> list[Json]:
        output.text += piece
        return [
            self._of_call(
                "response.function_call_arguments.delta",
                output,
                delta=piece,
                obfuscation=self._ids.obfuscation(),
            )
        ]

    def _close(self, output: _Output, status: str) -> list[Json]:
        output.open = False
        output.item["status"] = status
        if output.call is not None:
            # OpenAI: this event comes for interrupted calls too; the item's status tells.
            output.item["arguments"] = output.text
            events = [
                self._of_call(
                    "response.function_call_arguments.done",
                    output,
                    name=output.call.name,
                    arguments=output.text,
                )
            ]
        else:
            events = self._close_parts(output)
        if self._conversation is not None:
            events.append(self._in_conversation("conversation.item.done", output))
        events.append(self._of_item("response.output_item.done", output))
        return events

    def _close_parts(self, output: _Output) -> list[Json]:
        part = self._part(output.text)
        part_done = self._of_part("response.content_part.done", output, part=part)
        if not self._is_audio:
            output.item["content"] = [{"type": "output_text", "text": output.text}]
            done = self._of_part("response.output_text.done", output, text=output.text)
            return [done, part_done]
        output.item["content"] = [{"type": "output_audio", "transcript": output.text}]
        transcript = {"transcript": output.text}
        return [
            self._of_part("response.output_audio.done", output),
            self._of_part("response.output_audio_transcript.done", output, **transcript),
            part_done,
        ]

    def _end(self, status: str, details: Json | None) -> list[Json]:
        events: list[Json] = []
        for output in self._outputs:
            if output.open:
                events += self._close(output, "incomplete")
        self.done = True
        response = self._snapshot(status, details, with_usage=True)
        return [*events, {"type": "response.done", "response": response}]

    # --- The shapes ---------------------------------------------------------------------

    @property
    def _is_audio(self) -> bool:
        return self._settings.modality == "audio"

    def _part(self, text: str) -> Json:
        # OpenAI: in content_part events the type is still `audio` or `text`.
        if self._is_audio:
            return {"type": "audio", "transcript": text}
        return {"type": "text", "text": text}

    def _of_item(self, kind: str, output: _Output, **extra: Any) -> Json:
        return {
            "type": kind,
            "response_id": self.id,
            "output_index": output.index,
            "item": copy.deepcopy(output.item),
            **extra,
        }

    def _of_part(self, kind: str, output: _Output, **fields: Any) -> Json:
        return {
            "type": kind,
            "response_id": self.id,
            "item_id": output.entry.id,
            "output_index": output.index,
            "content_index": 0,
            **fields,
        }

    def _of_call(self, kind: str, output: _Output, **fields: Any) -> Json:
        return {
            "type": kind,
            "response_id": self.id,
            "item_id": output.entry.id,
            "output_index": output.index,
            "call_id": output.item["call_id"],
            **fields,
        }

    def _in_conversation(self, kind: str, output: _Output) -> Json:
        # OpenAI: previous_item_id is sometimes null in `done`; here, for what precedes a call.
        unsaid = kind.endswith("done") and output.item.get("phase") == "commentary"
        previous_id = None if unsaid else output.previous_id
        item = copy.deepcopy(output.item)
        return {"type": kind, "previous_item_id": previous_id, "item": item}

    def _snapshot(
        self, status: str, details: Json | None = None, *, with_usage: bool = False
    ) -> Json:
        settings = self._settings
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [copy.deepcopy(output.item) for output in self._outputs],
            "conversation_id": settings.conversation_id,
            "output_modalities": [settings.modality],
            "max_output_tokens": settings.max_output_tokens,
            "audio": {"output": {"format": dict(settings.audio_format), "voice": settings.voice}},
            "usage": self._usage(status) if with_usage else None,
            "metadata": settings.metadata,
        }

    def _usage(self, status: str) -> Json:
        if status == "failed":
            return copy.deepcopy(usage.NOTHING)
        calls = any(output.call for output in self._outputs)
        reasoning = _REASONING_TOKENS if calls and self._settings.with_phase else None
        text = sum(usage.text_tokens(output.text) for output in self._outputs)
        return usage.response_usage(
            self._count,
            text=text + (reasoning or 0),
            audio=usage.audio_tokens(self.audio_ms),
            reasoning=reasoning,
        )


def _argument_pieces(text: str) -> list[str]:
    size = max(1, -(-len(text) // 3))
    return [text[start : start + size] for start in range(0, len(text), size)]
