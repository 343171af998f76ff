"""The HTTP side of a call: `/twiml`, `/twiml/after`, `/twiml/dial-result`, `/twilio/status`.

Twilio: it waits 15 s for an answer, may send the same webhook twice, may add parameters without
notice, and sends status callbacks out of order.
"""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict, MultiMapping

from services.gateway import metrics, tokens
from services.gateway.offers import Outcome, Owners, StoreAwayError
from services.gateway.signature import HEADER, Signatures
from services.gateway.twiml import SORRY_REASONS, Answers
from shared.bus import TOKENS_TTL_S
from shared.subjects import is_call_id

log = logging.getLogger(__name__)

Route = Literal["twiml", "after", "dial_result", "status"]

#: Twilio's forms have 1 to 4 kB, with a StirPassportToken 6.
BODY_LIMIT_BYTES: Final = 64 * 1024
#: Twilio sends about 40; each costs a little, so a body of "&&&&" must not cost much.
FIELDS_MAX: Final = 500
#: How a call ends (https://www.twilio.com/docs/voice/api/call-resource, CallStatus).
ENDED: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
#: How a `<Dial>` ends (Twilio: `DialCallStatus` in the request to its `action`).
TALKED: Final = frozenset({"completed", "answered"})
NOT_REACHED: Final = frozenset({"busy", "no-answer", "failed", "canceled"})


class RefusedError(Exception):
    """This webhook is answered with an HTTP error."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Minter:
    """Makes stream tokens."""

    secret: bytes
    ttl_s: int

    def mint(self, call: str, *, extra_s: int = 0) -> str:
        """A new token; two answers never carry the same."""
        # A used token is remembered for TOKENS_TTL_S: it must not outlive that.
        ttl_s = min(self.ttl_s + extra_s, TOKENS_TTL_S)
        claims = tokens.Claims(call, int(time.time()) + ttl_s, secrets.token_hex(16))
        return tokens.mint(self.secret, claims)


class Webhooks:
    """Handlers of the four routes."""

    def __init__(
        self,
        *,
        answers: Answers,
        owners: Owners,
        minter: Minter,
        signatures: Signatures | None,
        max_legs: int,
        is_dead: Callable[[str], bool],
    ) -> None:
        """`is_dead` tells whether a worker, by name, has stopped beating."""
        self._is_dead = is_dead
        self._answers = answers
        self._owners = owners
        self._minter = minter
        self._signatures = signatures
        self._max_legs = max_legs

    def routes(self) -> list[web.RouteDef]:
        """No HEAD: a health checker that asks for `/twiml` must not offer a call."""
        routes = []
        for path, handler in (
            ("/twiml", self.twiml),
            ("/twiml/after", self.after),
            ("/twiml/dial-result", self.dial_result),
            ("/twilio/status", self.status),
        ):
            routes.append(web.get(path, handler, allow_head=False))
            routes.append(web.post(path, handler))
        return routes

    # --- the four ---------------------------------------------------------------------------

    async def twiml(self, request: web.Request) -> web.Response:
        """A call comes in: find an owner, and tell Twilio to open a stream to us."""
        with metrics.WEBHOOK_SECONDS.labels("twiml").time():
            try:
                params = await self._read(request, "twiml")
                call = self._call(params, "twiml")
            except RefusedError as refused:
                return _refusal(refused)
            caller, dialled = params.get("From", ""), params.get("To", "")
            outbound = params.get("Direction", "").startswith("outbound")
            if outbound:  # Twilio: then `From` is our number, which chooses the agent
                caller, dialled = dialled, caller
            outcome = await self._owners.offer(
                call,
                caller=caller,
                dialled=dialled,
                outbound=outbound,
            )
            match outcome:
                case Outcome.TAKEN:
                    return _xml(self._answers.connect(self._minter.mint(call)))
                case Outcome.BUSY:
                    return _xml(self._answers.busy(_count(request, "attempt")))
                case Outcome.ENDED:
                    return _xml(self._answers.hang_up())
                case Outcome.FAILED:
                    return _xml(self._answers.sorry())

    async def after(self, request: web.Request) -> web.Response:
        """A stream has ended, and Twilio asks what is next.

        Our own record of the call decides: without that, a normal end would re-attach for ever.
        """
        with metrics.WEBHOOK_SECONDS.labels("after").time():
            try:
                params = await self._read(request, "after")
                call = self._call(params, "after")
            except RefusedError as refused:
                return _refusal(refused)
            # `leg` counts our answers, attached or not: without it a call whose owner is dead would
            # open and lose sockets for as long as it lasts.
            return _xml(await self._next(call, params, max(1, _count(request, "leg")) + 1))

    async def dial_result(self, request: web.Request) -> web.Response:
        """A transfer has ended: the other party has hung up, or was not reached."""
        with metrics.WEBHOOK_SECONDS.labels("dial_result").time():
            try:
                params = await self._read(request, "dial_result")
                call = self._call(params, "dial_result")
            except RefusedError as refused:
                return _refusal(refused)
            result, status = params.get("DialCallStatus", ""), params.get("CallStatus", "")
            known = result if result in TALKED | NOT_REACHED else "unknown"
            metrics.DIALS.labels(known).inc()
            log.info("a transfer has ended", extra={"call": call, "result": known})
            if result in TALKED:
                await self._owners.hang_up(call, "transferred")
                return _xml(self._answers.hang_up())
            if status in ENDED:  # the caller has given up while it rang
                await self._owners.hang_up(call, f"phone_{status}")
                return _xml(self._answers.hang_up())
            # The owner wanted this socket to go, so it does not count as lost.
            return _xml(await self._next(call, params, 1, note=f"dial:{known}"))

    async def _next(self, call: str, params: MultiMapping[str], leg: int, *, note: str = "") -> str:
        """What our own record of the call says; `leg` is the number of the socket to come."""
        try:
            record = await self._owners.record(call)
        except StoreAwayError:
            return self._answers.sorry()
        if record is None:
            return self._answers.hang_up()
        if record.state == "ended":
            if record.reason in SORRY_REASONS:
                return self._answers.sorry()
            return self._answers.hang_up()
        if params.get("CallStatus", "in-progress") != "in-progress":
            return self._answers.hang_up()  # the caller is gone
        if self._is_dead(record.worker):
            log.warning("a call has lost its owner", extra={"call": call})
            return self._answers.sorry()
        if leg > self._max_legs:
            log.warning("a call has lost its phone socket too often", extra={"call": call})
            return self._answers.sorry()
        log.info("the phone is put back to its call", extra={"call": call, "note": note})
        return self._answers.connect(self._minter.mint(call), leg=leg, note=note)

    async def status(self, request: web.Request) -> web.Response:
        """The call has changed its state at Twilio; an end is told to the owner."""
        with metrics.WEBHOOK_SECONDS.labels("status").time():
            try:
                params = await self._read(request, "status")
            except RefusedError as refused:
                return _refusal(refused)
            call, status = params.get("CallSid", ""), params.get("CallStatus", "")
            if status in ENDED and is_call_id(call):
                await self._owners.hang_up(call, f"phone_{status}")
            return web.Response(status=204)

    # --- reading ----------------------------------------------------------------------------

    async def _read(self, request: web.Request, route: Route) -> MultiMapping[str]:
        """The parameters, as signed; raises `RefusedError`."""
        form = await self._form(request, route)
        if self._signatures is not None:
            url = self._answers.origin + request.raw_path
            if not self._signatures.webhook(url, form, request.headers.get(HEADER, "")):
                log.warning(
                    "a webhook's signature is wrong: check PUBLIC_URL and TWILIO_AUTH_TOKEN",
                    extra={"route": route},
                )
                raise self._refuse(route, 403, "signature")
        return form if request.method == "POST" else request.query

    async def _form(self, request: web.Request, route: Route) -> MultiMapping[str]:
        """The body's fields.  Blank ones are kept: Twilio signs them."""
        if request.method != "POST":
            return MultiDict()
        try:
            # Twilio's forms are UTF-8, whatever charset the request claims.
            body = (await request.read()).decode()
            fields = parse_qsl(body, keep_blank_values=True, max_num_fields=FIELDS_MAX)
        except web.HTTPRequestEntityTooLarge:
            raise self._refuse(route, 413, "too_large") from None
        except ValueError:  # not UTF-8, or too many fields
            raise self._refuse(route, 400, "form") from None
        return MultiDict(fields)

    def _call(self, params: MultiMapping[str], route: Route) -> str:
        call = params.get("CallSid", "")
        if not is_call_id(call):
            raise self._refuse(route, 400, "call_id")
        return call

    def _refuse(self, route: Route, status: int, reason: str) -> RefusedError:
        metrics.WEBHOOKS_REFUSED.labels(route, reason).inc()
        return RefusedError(status, reason)


_WHY: Final = {
    "signature": "the signature does not match",
    "too_large": "the body is too large",
    "form": "the body is not a form",
    "call_id": "CallSid is missing or is not a call id",
}


def _refusal(refused: RefusedError) -> web.Response:
    return web.Response(status=refused.status, text=_WHY[refused.reason])


def _xml(document: str) -> web.Response:
    # Twilio may cache the answer to a GET; a token in it works only once.
    return web.Response(
        text=document, content_type="text/xml", headers={"Cache-Control": "no-store"}
    )


def _count(request: web.Request, name: str) -> int:
    """A small number from the URL; 0 for anything else."""
    value = request.query.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 4 else 0
