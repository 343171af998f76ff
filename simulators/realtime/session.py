"""One session of the simulated model: client events and time in, server events out.

    session = Session(...)
    outputs = session.start(now)
    outputs = session.receive(message, now)        # when a frame came
    outputs = session.handle_timer(now)            # when session.next_timer() has come

`now` is any monotonic clock in seconds. Perform the outputs in order; after a `Close` or an `Abort`
there are no more.
"""

import base64
import copy
import functools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from simulators.realtime import requests
from simulators.realtime.caller_side import CallerSide, audio_bytes
from simulators.realtime.config import PCM, bytes_per_ms, default_session, updated_session
from simulators.realtime.conversation import Conversation, Entry
from simulators.realtime.director import heard_text, turn_of
from simulators.realtime.faults import Faults
from simulators.realtime.ids import Ids
from simulators.realtime.model_side import ModelSide
from simulators.realtime.outbox import Abort, Close, Outbox, Output
from simulators.realtime.refusal import Refusal, error_event
from simulators.realtime.script import Script

__all__ = ["Session"]

Json = dict[str, Any]

_CONFIGURE_MS = (70, 110)  # OpenAI: an update is answered after 70 to 260 ms

_WAITING_MAX = 256
"""Client events held back while an update is being applied; the reader stops there."""


class Session:
    """The rules of one connection."""

    def __init__(
        self,
        *,
        model: str,
        script: Script,
        faults: Callable[[], Faults],
        unix_time: int,
        rng: random.Random,
        generation_speed: float = 8.0,
    ) -> None:
        self.ids = Ids(rng)
        self.config: Json = default_session(
            model=model,
            session_id=self.ids.new("sess"),
            expires_at=unix_time + faults().session_ms // 1000,
        )
        self.conversation = Conversation()
        self._script = script
        self._faults = faults
        self._rng = rng
        self._outbox = Outbox(self.ids, faults)
        self._updating = False
        self._updates = 0
        self._waiting: deque[str | bytes] = deque()  # bounded by `accepting`
        self.model_side = ModelSide(
            self.config,
            self.conversation,
            script,
            outbox=self._outbox,
            ids=self.ids,
            rng=rng,
            faults=faults,
            generation_speed=generation_speed,
            on_started=lambda: self.caller_side.listener.response_started(),
            on_done=lambda audio_ms: self.caller_side.listener.response_done(audio_ms),
        )
        self.caller_side = CallerSide(
            self.config,
            self.conversation,
            script,
            outbox=self._outbox,
            ids=self.ids,
            rng=rng,
            on_interruption=self.model_side.interrupt,
            on_turn=self.model_side.respond_to_turn,
        )
        self._handlers: dict[str, Callable[[Json, float], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self.caller_side.append,
            "input_audio_buffer.commit": self.caller_side.commit,
            "input_audio_buffer.clear": self.caller_side.clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": self._delete_item,
            "response.create": self.model_side.create,
            "response.cancel": self.model_side.cancel,
        }

    # --- In and out ---------------------------------------------------------------------

    @property
    def accepting(self) -> bool:
        """The reader may deliver the next frame."""
        return len(self._waiting) < _WAITING_MAX

    def start(self, now: float) -> list[Output]:
        """Begin with `session.created`, and wind up the clocks of the faults."""
        faults = self._faults()
        self._outbox.send({"type": "session.created", "session": copy.deepcopy(self.config)})
        self._outbox.do_later(now + faults.session_ms / 1000, self._expire)
        for after_ms, error in faults.error_events:
            send = functools.partial(self._send_error, error)
            self._outbox.do_later(now + after_ms / 1000, send)
        if faults.drop_after_ms is not None:
            drop_at = now + faults.drop_after_ms / 1000
            self._outbox.do_later(drop_at, lambda _now: self._outbox.finish(Abort()))
        return self._outbox.drained()

    def receive(self, message: str | bytes, now: float) -> list[Output]:
        """Handle a frame from the client. Call only while `accepting`."""
        if self._updating:
            self._waiting.append(message)
        else:
            self._handle(message, now)
        return self._outbox.drained()

    def next_timer(self) -> float | None:
        """Return when `handle_timer` must be called, on the clock of `now`."""
        if self._outbox.ended:
            return None
        times = (self.model_side.next_timer, self._outbox.next_timer)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Do everything that is due, in the order of its time."""
        while (at := self.next_timer()) is not None and at <= now:
            if at == self.model_side.next_timer:
                self.model_side.run_timer()
            else:
                self._outbox.run_timer()
        return self._outbox.drained()

    def expire(self, now: float) -> list[Output]:
        """End the session at once, as the service does after 60 minutes."""
        self._expire(now)
        return self._outbox.drained()

    def send_error(self, error: Json, now: float) -> list[Output]:
        """Send an `error` event at once."""
        self._send_error(error, now)
        return self._outbox.drained()

    def _expire(self, _now: float) -> None:
        minutes = max(1, self._faults().session_ms // 60_000)
        text = f"Your session hit the maximum duration of {minutes} minutes."
        self._outbox.send(error_event("session_expired", text))
        self._outbox.finish(Close(1001, text))

    def _send_error(self, error: Json, _now: float) -> None:
        blank = error_event(None, "The server had an error.", type="server_error")
        self._outbox.send({**blank, "error": {**blank["error"], **error}})

    def _handle(self, message: str | bytes, now: float) -> None:
        event_id: str | None = None
        try:
            event = requests.parsed(message)
            claimed = event.get("event_id")
            event_id = claimed if isinstance(claimed, str) else None
            requests.checked(event)
            self._handlers[event["type"]](event, now)
        except Refusal as refusal:
            self._outbox.send(refusal.event(event_id))

    # --- Configuration ------------------------------------------------------------------

    def _update(self, event: Json, now: float) -> None:
        """Answer after a while; events behind it wait, so that answers keep the order."""
        self._updating = True
        delay_ms = self._rng.uniform(*_CONFIGURE_MS) + self._faults().configure_delay_ms
        self._outbox.do_later(now + delay_ms / 1000, functools.partial(self._apply, event))

    def _apply(self, event: Json, now: float) -> None:
        self._updating = False
        self._updates += 1
        try:
            self._configure(event["session"])
        except Refusal as refusal:
            self._outbox.send(refusal.event(event.get("event_id")))
        else:
            self._outbox.send({"type": "session.updated", "session": copy.deepcopy(self.config)})
        while self._waiting and not self._updating:
            self._handle(self._waiting.popleft(), now)

    def _configure(self, update: Any) -> None:
        faults = self._faults()
        if self._updates <= faults.reject_update:
            message = "Invalid value: this update is refused by a simulated fault."
            raise Refusal("invalid_value", message, "session.tools[0].parameters")
        spoken = self.conversation.has_assistant_audio
        config = updated_session(self.config, update, has_assistant_audio=spoken)
        if faults.wrong_format:
            for direction in config["audio"].values():
                direction["format"] = dict(PCM)
        self.config = config
        self.caller_side.configure(config)
        self.model_side.configure(config)

    # --- Items --------------------------------------------------------------------------

    def _create_item(self, event: Json, _now: float) -> None:
        item = copy.deepcopy(event["item"])
        item.setdefault("id", self.ids.new("item"))
        if item["type"] == "function_call":
            item.setdefault("call_id", self.ids.new("call"))
        if item["type"] == "function_call_output":
            item.pop("status", None)  # OpenAI: no status in the echo
        else:
            item["status"] = "completed"
        entry = Entry(item)
        self._take_audio(entry)
        if entry.role == "user":
            entry.turn = turn_of(self._script, self.conversation, entry.text or None)
        previous_id = self.conversation.insert(entry, event.get("previous_item_id"))
        if entry.role == "user":
            text = entry.text or heard_text(self._script, entry.turn)
            self.caller_side.said.append((entry.id, text))
        self.caller_side.announce(entry, previous_id)

    def _take_audio(self, entry: Entry) -> None:
        audio_format = self.config["audio"]["input"]["format"]
        for index, part in enumerate(entry.item.get("content", [])):
            if part["type"] == "input_audio":
                entry.audio = audio_bytes(part.pop("audio"), f"item.content[{index}].audio")
                entry.audio_ms = len(entry.audio) / bytes_per_ms(audio_format)
                part["transcript"] = None  # OpenAI: a given transcript is not used

    def _retrieve_item(self, event: Json, _now: float) -> None:
        entry = self.conversation.get(event["item_id"])
        audio = base64.b64encode(entry.audio).decode() if entry and entry.audio else None
        item = self.conversation.retrieved(event["item_id"], audio)
        self._outbox.send({"type": "conversation.item.retrieved", "item": item})

    def _truncate_item(self, event: Json, _now: float) -> None:
        names = ("item_id", "content_index", "audio_end_ms")
        values = {name: event[name] for name in names}
        self.conversation.truncate(**values)
        self._outbox.send({"type": "conversation.item.truncated", **values})

    def _delete_item(self, event: Json, _now: float) -> None:
        item_id = event["item_id"]
        self.conversation.delete(item_id)
        self._outbox.send({"type": "conversation.item.deleted", "item_id": item_id})
