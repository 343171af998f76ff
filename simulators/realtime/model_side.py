"""The model's side of a session: which responses run, how they start, and how they are cut off."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from simulators.realtime import usage
from simulators.realtime.config import has_phases
from simulators.realtime.conversation import Conversation
from simulators.realtime.director import Line, line_for, out_of_band_line
from simulators.realtime.faults import Faults
from simulators.realtime.ids import Ids
from simulators.realtime.outbox import Outbox
from simulators.realtime.refusal import Refusal
from simulators.realtime.response import Response, Settings
from simulators.realtime.script import Script

__all__ = ["UNLISTED_EVENT", "ModelSide"]

Json = dict[str, Any]

UNLISTED_EVENT = "session.unlisted"
"""An event type no client knows. OpenAI: new ones appear; a client must live with them."""

_UNLISTED_EVERY = 3  # responses, beginning with the second
_RATE_LIMITS_MS = (30, 45)  # OpenAI: after `response.done`
_RATE_LIMIT_TOKENS = 15_000_000
_LATE_DELTA_MS = 20
_OUT_OF_BAND_MAX = 8


class ModelSide:
    """Starts, plays and cancels responses. OpenAI: one at a time in the conversation."""

    def __init__(
        self,
        config: Json,
        conversation: Conversation,
        script: Script,
        *,
        outbox: Outbox,
        ids: Ids,
        rng: random.Random,
        faults: Callable[[], Faults],
        generation_speed: float,
        on_started: Callable[[], None],
        on_done: Callable[[float], None],
    ) -> None:
        self.warnings: deque[str] = deque(maxlen=100)
        """What the service would not refuse but looks like a mistake of the client's."""

        self._config = config
        self._conversation = conversation
        self._script = script
        self._outbox = outbox
        self._ids = ids
        self._rng = rng
        self._faults = faults
        self._speed = generation_speed
        self._on_started = on_started
        self._on_done = on_done  # with the ms of audio that were sent
        self._conversation_id = ids.new("conv")
        self._meter = usage.Meter()
        self._active: Response | None = None
        self._out_of_band: list[Response] = []
        self._count = 0

    def configure(self, config: Json) -> None:
        """Use this configuration from here on."""
        self._config = config

    # --- Starting -----------------------------------------------------------------------

    def create(self, event: Json, now: float) -> None:
        """Handle `response.create`."""
        self._respond(event.get("response") or {}, now)

    def respond_to_turn(self, now: float) -> None:
        """Start an automatic response.

        OpenAI: with interrupt_response off it can meet a running one, and fails.
        """
        try:
            self._respond({}, now)
        except Refusal as refusal:
            self._outbox.send(refusal.event(None))

    def _respond(self, request: Json, now: float) -> None:
        in_band = request.get("conversation") != "none"
        self._refuse(request, in_band=in_band)
        response = self._response(request, now, in_band=in_band)
        self._count += 1
        if self._count == self._faults().fail_response:
            response.fail(_failure(self._faults().fail_code))
        if in_band:
            self._active = response
            self._on_started()
        else:
            self._out_of_band.append(response)
        self._outbox.send(response.created())

    def _refuse(self, request: Json, *, in_band: bool) -> None:
        if in_band and self._active is not None:
            message = (
                "Conversation already has an active response in progress: "
                f"{self._active.id}. Wait until the response is finished before creating a "
                "new one."
            )
            raise Refusal("conversation_already_has_active_response", message)
        if not in_band and len(self._out_of_band) >= _OUT_OF_BAND_MAX:
            raise Refusal("rate_limit_exceeded", "Too many responses at once.")
        for index, item in enumerate(request.get("input", [])):
            if item["type"] == "item_reference" and not self._conversation.get(item["id"]):
                message = f"Item with item_id '{item['id']}' does not exist in the conversation."
                raise Refusal("invalid_value", message, f"response.input[{index}].id")
        voice = self._config["audio"]["output"]["voice"]
        wanted = request.get("audio", {}).get("output", {}).get("voice", voice)
        if in_band and self._conversation.has_assistant_audio and wanted != voice:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise Refusal("cannot_update_voice", message)

    def _response(self, request: Json, now: float, *, in_band: bool) -> Response:
        config = {**self._config, **{k: v for k, v in request.items() if v is not None}}
        output = {**self._config["audio"]["output"], **config["audio"].get("output", {})}
        settings = Settings(
            id=self._ids.new("resp"),
            conversation_id=self._conversation_id if in_band else None,
            modality=config["output_modalities"][0],
            audio_format=output["format"],
            voice=output["voice"],
            max_output_tokens=config["max_output_tokens"],
            metadata=request.get("metadata"),
            generation_speed=self._speed,
            with_phase=has_phases(self._config["model"]),
        )
        return Response(
            settings,
            self._line(config) if in_band else out_of_band_line(self._script),
            self._conversation if in_band else None,
            count=self._meter.count_input(self._conversation, config),
            ids=self._ids,
            rng=self._rng,
            now=now,
            stall_ms=self._faults().stall_response_ms,
        )

    def _line(self, config: Json) -> Line:
        allowed = config["tool_choice"] != "none"
        line = line_for(self._script, self._conversation, calls_allowed=allowed)
        offered = {tool.get("name") for tool in config["tools"]}
        for call in line.calls:
            if call.name not in offered:
                self.warnings.append(f"the script calls {call.name}, which is not among the tools")
        return line

    # --- Playing ------------------------------------------------------------------------

    @property
    def _playing(self) -> list[Response]:
        return [*([self._active] if self._active else []), *self._out_of_band]

    @property
    def next_timer(self) -> float | None:
        """When the next events of a response are due."""
        times = [response.next_at for response in self._playing]
        return min((at for at in times if at is not None), default=None)

    def run_timer(self) -> None:
        """Send the next events that are due."""
        at = self.next_timer
        response = next(response for response in self._playing if response.next_at == at)
        assert at is not None
        before_ms = response.audio_ms
        for event in response.play():
            self._outbox.send(event, response.audio_ms - before_ms)
        if response.done:
            self._done(response, at)

    def _done(self, response: Response, at: float) -> None:
        if response is self._active:
            self._active = None
            self._on_done(response.audio_ms)
        else:
            self._out_of_band.remove(response)
        if self._count % _UNLISTED_EVERY == 2:
            note = "clients ignore what they do not know"
            self._outbox.send({"type": UNLISTED_EVENT, "note": note})
        tokens = {
            "name": "tokens",
            "limit": _RATE_LIMIT_TOKENS,
            "remaining": _RATE_LIMIT_TOKENS - response.tokens,
            "reset_seconds": 0.003,
        }
        event = {"type": "rate_limits.updated", "rate_limits": [tokens]}
        self._outbox.send_later(at + self._rng.uniform(*_RATE_LIMITS_MS) / 1000, event)

    # --- Cutting off --------------------------------------------------------------------

    def cancel(self, event: Json, now: float) -> None:
        """Handle `response.cancel`."""
        wanted = event.get("response_id")
        for response in self._playing:
            if response.id == wanted or (wanted is None and response is self._active):
                self._cancel(response, "client_cancelled", now)
                return
        message = "Cancellation failed: no active response found"
        raise Refusal("response_cancel_not_active", message)

    def interrupt(self, now: float) -> None:
        """Cancel the running response because the caller speaks."""
        if self._active is not None:
            self._cancel(self._active, "turn_detected", now)

    def _cancel(self, response: Response, reason: str, now: float) -> None:
        faults = self._faults()
        at = now + faults.late_done_ms / 1000
        events = response.cancel(reason)
        late = response.late_deltas() if faults.late_deltas else []
        for event in events:
            if faults.late_done_ms:
                self._outbox.send_later(at, event)
            else:
                self._outbox.send(event)
        for event, audio_ms in late:
            at += _LATE_DELTA_MS / 1000
            self._outbox.send_later(at, event, audio_ms)
        self._done(response, at)


def _failure(code: str) -> Json:
    if code == "server_error":
        message = "The server had an error while processing your request."
        return {"type": "server_error", "code": None, "message": message}
    return {"type": "server_error", "code": code, "message": f"Simulated failure: {code}."}
