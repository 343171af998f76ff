"""What the owner wants of the phone call itself: a transfer, keys pressed.  Done by REST.

Each is one request to Twilio, in a task of its stream: neither the phone nor the owner is kept
waiting.  What became of it is told to the owner as `PhoneUpdated`, always.

Twilio: the stream gets `stop` when the request was carried out, often before its answer.  So the
end of a stream waits for the answer (`finish`): the owner should know why the stream stops.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from services.gateway import metrics
from services.gateway.rest import Rest, RestError
from services.gateway.twiml import Answers
from shared.messages import PhoneUpdated, SendDigits, TransferLeg

log = logging.getLogger(__name__)

#: Twilio plays 32 keys and waits in less than this; the token of the socket after them must last.
KEYS_MAX_S: Final = 60

What = Literal["transfer", "digits"]


class Mint(Protocol):
    """Makes the token for a call's next socket."""

    def __call__(self, call: str, *, extra_s: int) -> str:
        """Good for the usual time and `extra_s` seconds."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Carries updates out; one for all streams."""

    rest: Rest
    answers: Answers
    mint: Mint

    async def update(self, call: str, wanted: TransferLeg | SendDigits) -> PhoneUpdated:
        """Never raises: what went wrong is in the answer."""
        what: What = wanted.type
        try:
            await self.rest.update(call, twiml=self._twiml(call, wanted))
        except RestError as error:
            log.warning(
                "Twilio did not change the call",
                extra={"call": call, "what": what, "code": error.code, "detail": error.message},
            )
            return _failed(what, error.code, error.message)
        except ValueError as error:
            return _failed(what, "invalid", str(error))
        log.info("Twilio changes the call", extra={"call": call, "what": what})
        metrics.CALL_UPDATES.labels(what, "ok").inc()
        return PhoneUpdated(what=what, ok=True)

    def _twiml(self, call: str, wanted: TransferLeg | SendDigits) -> str:
        match wanted:
            case TransferLeg():
                return self.answers.dial(wanted.to)
            case SendDigits():
                return self.answers.keys(wanted.digits, self.mint(call, extra_s=KEYS_MAX_S))


class Updates:
    """Those of one stream, one at a time."""

    def __init__(self, desk: Desk, tell: Callable[[PhoneUpdated], None]) -> None:
        """`tell` brings the answer to the owner."""
        self._desk = desk
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._what: What = "transfer"

    def begin(self, call: str, wanted: TransferLeg | SendDigits) -> None:
        """Start it, and return."""
        if self._task is not None and not self._task.done():
            self._tell(_failed(wanted.type, "busy", "another change of the call is on its way"))
            return
        self._what = wanted.type
        self._task = asyncio.create_task(self._carry_out(call, wanted), name="update the call")

    async def _carry_out(self, call: str, wanted: TransferLeg | SendDigits) -> None:
        self._tell(await self._desk.update(call, wanted))

    async def finish(self, within_s: float) -> None:
        """Wait for what is on its way; give it up after `within_s`, and say so."""
        task = self._task
        if task is None:
            return
        await asyncio.wait([task], timeout=within_s)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            self._tell(_failed(self._what, "timeout", "the stream ended before the answer"))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("changing a call failed", extra={"error": repr(error)})


def _failed(what: What, code: str, message: str) -> PhoneUpdated:
    metrics.CALL_UPDATES.labels(what, code).inc()
    return PhoneUpdated(what=what, ok=False, code=code[:64], message=message)
