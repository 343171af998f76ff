"""What the gateway asks of the rest of the house: owners of calls, and two buckets.

Every failure of the bus becomes one of a few answers here, so that the edge need not know NATS.
"""

import asyncio
import enum
import logging
from typing import Final

import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue
from pydantic import ValidationError

from services.gateway import metrics
from shared import subjects
from shared.bus import Bus, NoAnswerError, NoResponderError, bucket
from shared.messages import (
    COMMAND_ANSWER,
    OFFER_ANSWER,
    AttachLeg,
    CallRecord,
    HangUp,
    LegAttached,
    Offer,
    OfferTaken,
)

log = logging.getLogger(__name__)

#: How often a call is offered when workers answer that they are full or draining.  Such a worker
#: leaves the queue group, so the next offer reaches another, or nobody.
OFFERS_MAX: Final = 5
#: Workers that were asked and stayed silent: one may have died just now, two are a pattern.
SILENT_MAX: Final = 2
#: Twilio waits 15 s for an answer, connecting included; then the caller hears an error message.
OFFER_BUDGET_S: Final = 10.0
#: The owner answers from memory.
COMMAND_TIMEOUT_S: Final = 3.0


class Outcome(enum.StrEnum):
    """What became of an offer."""

    TAKEN = "taken"
    BUSY = "busy"
    """No worker has room."""
    ENDED = "ended"
    """The call is over already."""
    FAILED = "failed"


class StoreAwayError(Exception):
    """The key-value store does not answer."""


class NotAttachedError(Exception):
    """The owner did not take the leg, or there is no owner."""


class Owners:
    """Requests to session workers, and the two buckets that the edge needs."""

    def __init__(self, bus: Bus, *, gateway: str, offer_timeout_s: float) -> None:
        self._bus = bus
        self._gateway = gateway
        self._offer_timeout_s = offer_timeout_s
        self._buckets: dict[str, KeyValue] = {}

    async def offer(self, call: str, *, caller: str, dialled: str, outbound: bool) -> Outcome:
        """Find an owner for the call; asking twice is harmless, its owner answers the same."""
        offer = Offer(
            call=call,
            caller=caller[:256],
            dialled=dialled[:256],
            direction="outbound" if outbound else "inbound",
            gateway=self._gateway,
        )
        try:
            async with asyncio.timeout(OFFER_BUDGET_S):
                outcome = await self._offer(offer)
        except TimeoutError:
            outcome = Outcome.FAILED
        metrics.OFFERS.labels(outcome).inc()
        return outcome

    async def _offer(self, offer: Offer) -> Outcome:
        silent = 0
        for _ in range(OFFERS_MAX):
            try:
                data = await self._bus.request(
                    subjects.OFFER, offer, timeout_s=self._offer_timeout_s
                )
                answer = OFFER_ANSWER.validate_json(data)
            except NoResponderError:
                return Outcome.BUSY
            except NoAnswerError:
                silent += 1
                if silent < SILENT_MAX:
                    continue
                log.warning("no worker answers an offer", extra={"call": offer.call})
                return Outcome.FAILED
            except ValidationError:
                log.warning("an offer's answer makes no sense", extra={"call": offer.call})
                return Outcome.FAILED
            if isinstance(answer, OfferTaken):
                return Outcome.TAKEN
            match answer.code:
                case "full" | "draining":
                    continue
                case "ended":
                    return Outcome.ENDED
                case "invalid" | "failed":
                    log.warning(
                        "a worker cannot take the call",
                        extra={"call": offer.call, "code": answer.code, "detail": answer.message},
                    )
                    return Outcome.FAILED
        return Outcome.BUSY

    async def attach(self, call: str, stream: str, note: str = "") -> LegAttached:
        """Give the phone's socket to the call's owner; raises `NotAttachedError`."""
        command = AttachLeg(gateway=self._gateway, stream=stream, note=note)
        try:
            data = await self._bus.request(
                subjects.command(call), command, timeout_s=COMMAND_TIMEOUT_S
            )
            answer = COMMAND_ANSWER.validate_json(data)
        except NoResponderError:
            raise NotAttachedError("no owner") from None
        except NoAnswerError:
            raise NotAttachedError("the owner does not answer") from None
        except ValidationError:
            raise NotAttachedError("the answer makes no sense") from None
        if not isinstance(answer, LegAttached):
            raise NotAttachedError(getattr(answer, "code", answer.answer))
        return answer

    async def hang_up(self, call: str, reason: str) -> bool:
        """Tell the owner that the phone is gone; False when there is none to tell."""
        try:
            await self._bus.request(
                subjects.command(call), HangUp(reason=reason[:64]), timeout_s=COMMAND_TIMEOUT_S
            )
        except NoResponderError:
            return False  # it knows already, and has forgotten the call
        except NoAnswerError:
            log.warning("the owner does not hear that the phone is gone", extra={"call": call})
            return False
        return True

    async def record(self, call: str) -> CallRecord | None:
        """Who owns the call; None if nobody ever did.  Raises `StoreAwayError`."""
        try:
            entry = await (await self._bucket(subjects.CALLS_BUCKET)).get(call)
            return CallRecord.decode(entry.value or b"")
        except nats.js.errors.KeyNotFoundError:
            return None
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, ValidationError) as error:
            log.warning("the call's record cannot be read", extra={"error": type(error).__name__})
            raise StoreAwayError from error

    async def use_up(self, nonce: str, call: str) -> bool:
        """Whether this is the token's first use at any gateway.  Raises `StoreAwayError`."""
        try:
            await (await self._bucket(subjects.TOKENS_BUCKET)).create(nonce, call.encode())
        except nats.js.errors.KeyWrongLastSequenceError:
            return False
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            log.warning("a token cannot be used up", extra={"error": type(error).__name__})
            raise StoreAwayError from error
        return True

    async def _bucket(self, name: str) -> KeyValue:
        found = self._buckets.get(name)
        if found is None:
            # Opening asks the server; the handle is good for as long as the connection object.
            found = self._buckets[name] = await bucket(self._bus, name)
        return found
