"""The caller's side of a session: audio in; turns, user items and transcripts out."""

import base64
import binascii
import copy
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from simulators.realtime import requests, usage
from simulators.realtime.conversation import Conversation, Entry
from simulators.realtime.director import heard_text, turn_of
from simulators.realtime.ids import Ids
from simulators.realtime.listening import IdleTimeout, Listener
from simulators.realtime.outbox import Outbox
from simulators.realtime.refusal import Refusal
from simulators.realtime.script import Script
from simulators.realtime.speaking import text_pieces
from simulators.realtime.vad import SpeechStarted, SpeechStopped

__all__ = ["CallerSide", "audio_bytes"]

Json = dict[str, Any]

_COMMIT_MS_MIN = 100  # OpenAI: a commit with less is refused as empty
_TRANSCRIPT_MS = (60, 160)  # after the commit, so shortly after `response.created`
_TRANSCRIPT_DELTA_MS = 25
_EARLY_TRANSCRIPT_MS = 600  # of open speech, before gpt-realtime-whisper writes its first word


class CallerSide:
    """Listens, and turns what it hears into items of the conversation."""

    def __init__(
        self,
        config: Json,
        conversation: Conversation,
        script: Script,
        *,
        outbox: Outbox,
        ids: Ids,
        rng: random.Random,
        on_interruption: Callable[[float], None],
        on_turn: Callable[[float], None],
    ) -> None:
        self.said: deque[tuple[str, str]] = deque(maxlen=1000)
        """(item id, text) of each turn, whether or not a transcript was asked for."""

        self.listener = Listener(config)
        self._config = config
        self._conversation = conversation
        self._script = script
        self._outbox = outbox
        self._ids = ids
        self._rng = rng
        self._on_interruption = on_interruption  # speech began and may cancel a response
        self._on_turn = on_turn  # a turn ended and wants an automatic response
        self._speech_item_id = ""  # the user item that open speech will become
        self._early = ("", "")  # its id and what of its transcript was already written

    def configure(self, config: Json) -> None:
        """Use this configuration from here on."""
        self._config = config
        self.listener.configure(config)

    @property
    def _turn_detection(self) -> Json:
        return self._config["audio"]["input"]["turn_detection"] or {}

    # --- Client events ------------------------------------------------------------------

    def append(self, event: Json, now: float) -> None:
        """Handle `input_audio_buffer.append`."""
        audio = audio_bytes(event["audio"], "audio")
        if len(audio) > requests.APPEND_BYTES_MAX:
            message = f"Invalid 'audio': at most {requests.APPEND_BYTES_MAX} bytes per event."
            raise Refusal("string_above_max_length", message, "audio")
        for fact in self.listener.append(audio):
            match fact:
                case SpeechStarted():
                    self._speech_started(fact, now)
                case SpeechStopped():
                    self._speech_stopped(fact, now)
                case IdleTimeout():
                    self._idle_timeout(fact, now)
        self._write_early()

    def commit(self, _event: Json, now: float) -> None:
        """Handle `input_audio_buffer.commit`; OpenAI: no response follows by itself."""
        buffered_ms = self.listener.buffered_ms
        if buffered_ms < _COMMIT_MS_MIN:
            message = (
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{_COMMIT_MS_MIN}ms of audio, but buffer only has {buffered_ms:.2f}ms of audio."
            )
            raise Refusal("input_audio_buffer_commit_empty", message)
        item_id = self._speech_item_id if self.listener.speaking else self._ids.new("item")
        self.listener.end_speech()
        self._add_audio(item_id, now)

    def clear(self, _event: Json, _now: float) -> None:
        """Handle `input_audio_buffer.clear`."""
        self.listener.clear()
        self._outbox.send({"type": "input_audio_buffer.cleared"})

    # --- Turns --------------------------------------------------------------------------

    def _speech_started(self, fact: SpeechStarted, now: float) -> None:
        # OpenAI: this id is the later user item's.
        self._speech_item_id = self._ids.new("item")
        self._outbox.send(
            {
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": fact.audio_start_ms,
                "item_id": self._speech_item_id,
            }
        )
        if self._turn_detection.get("interrupt_response"):
            self._on_interruption(now)

    def _speech_stopped(self, fact: SpeechStopped, now: float) -> None:
        self._outbox.send(
            {
                "type": "input_audio_buffer.speech_stopped",
                "audio_end_ms": fact.audio_end_ms,
                "item_id": self._speech_item_id,
            }
        )
        self._add_audio(self._speech_item_id, now)
        if self._turn_detection.get("create_response"):
            self._on_turn(now)

    def _idle_timeout(self, fact: IdleTimeout, now: float) -> None:
        item_id = self._ids.new("item")
        self._outbox.send(
            {
                "type": "input_audio_buffer.timeout_triggered",
                "audio_start_ms": fact.audio_start_ms,
                "audio_end_ms": fact.audio_end_ms,
                "item_id": item_id,
            }
        )
        self._add_audio(item_id, now, silent=True)
        self._on_turn(now)

    def _add_audio(self, item_id: str, now: float, *, silent: bool = False) -> None:
        audio, audio_ms = self.listener.take()
        turn = None if silent else turn_of(self._script, self._conversation)
        text = heard_text(self._script, turn)
        item = {
            "id": item_id,
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        # OpenAI: what is dropped as silence is not billed.
        entry = Entry(item, audio_ms=0.0 if silent else audio_ms, audio=audio, turn=turn)
        previous_id = self._conversation.append(entry)
        self._outbox.send(
            {
                "type": "input_audio_buffer.committed",
                "previous_item_id": previous_id,
                "item_id": item_id,
            }
        )
        self.announce(entry, previous_id)
        if text:
            self.said.append((item_id, text))
        self._transcribe(entry, text, now)

    def announce(self, entry: Entry, previous_id: str | None) -> None:
        """Say that an item has entered the conversation, complete."""
        for kind in ("conversation.item.added", "conversation.item.done"):
            item = copy.deepcopy(entry.item)
            self._outbox.send({"type": kind, "previous_item_id": previous_id, "item": item})

    # --- Transcripts --------------------------------------------------------------------

    @property
    def _transcription(self) -> Json:
        return self._config["audio"]["input"]["transcription"] or {}

    def _write_early(self) -> None:
        """OpenAI: gpt-realtime-whisper writes while the caller is still speaking."""
        item_id = self._speech_item_id
        due = (
            self._transcription.get("model") == "gpt-realtime-whisper"
            and self.listener.speaking
            and self.listener.speech_ms >= _EARLY_TRANSCRIPT_MS
            and self._early[0] != item_id
        )
        if not due:
            return
        turn = turn_of(self._script, self._conversation)
        first = heard_text(self._script, turn).split(" ")[0]
        self._early = (item_id, first)
        if first:
            self._outbox.send(self._delta(item_id, first))

    def _transcribe(self, entry: Entry, text: str, now: float) -> None:
        if not self._transcription:
            return
        written = self._early[1] if self._early[0] == entry.id else ""
        at = now + self._rng.uniform(*_TRANSCRIPT_MS) / 1000
        for piece in text_pieces(text.removeprefix(written), self._rng):
            self._outbox.send_later(at, self._delta(entry.id, piece))
            at += _TRANSCRIPT_DELTA_MS / 1000
        model = self._transcription["model"]
        completed = {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": entry.id,
            "content_index": 0,
            "transcript": text,
            "usage": usage.transcription_usage(model, text, entry.audio_ms),
        }
        if model == "gpt-transcribe":
            completed["languages"] = [{"code": "en"}]

        def complete(_now: float) -> None:
            entry.item["content"][0]["transcript"] = text
            self._outbox.send(completed)

        self._outbox.do_later(at, complete)

    def _delta(self, item_id: str, piece: str) -> Json:
        return {
            "type": "conversation.item.input_audio_transcription.delta",
            "item_id": item_id,
            "content_index": 0,
            "delta": piece,
            "obfuscation": self._ids.obfuscation(),
        }


def audio_bytes(text: str, param: str) -> bytes:
    """Return the bytes of base64 audio, or refuse it by the name of its field."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        message = f"Invalid '{param}': expected base64-encoded audio bytes."
        raise Refusal("invalid_value", message, param) from None
