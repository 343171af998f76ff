"""The part of Twilio's REST API that changes a call in progress, for simulated phones.

    async with TwilioRest(account_sid, auth_token) as rest, Phone(..., account_sid=...) as phone:
        rest.register(phone)
        ...  # the server under test posts to rest.url, and the phone obeys

Twilio: the request is answered at once, and carried out on its own; the stream's `stop` may come
before the answer or after it.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from simulators.phone import CallEndedError, Phone

__all__ = ["Fault", "RestRequest", "TwilioRest"]

_TWIML_CHARS = 4000
"""Twilio, error 32018: `Twiml` in a request has at most so many characters."""

_BODY_BYTES = 64 * 1024

_STOP_S = 5.0
"""How long the end waits for updates that phones are carrying out."""


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A request as it came, whatever became of it."""

    method: str
    path: str
    user: str
    form: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """The answer to one request, which has no effect then."""

    status: int
    code: int = 0
    """0: not Twilio's JSON, but a page of something in between."""
    message: str = "simulated"


class _RefusedError(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class TwilioRest:
    """A server on loopback; an async context manager."""

    account_sid: str
    auth_token: str
    api_keys: dict[str, str] = field(default_factory=dict)
    """Secrets by the SID of their key; as good as account SID and auth token."""
    faults: list[Fault] = field(default_factory=list)
    """What comes first is answered instead of carrying out the next request."""
    hold: asyncio.Event | None = None
    """Answers wait until it is set; what was asked for is done all the same."""
    requests: list[RestRequest] = field(default_factory=list)
    port: int = 0
    """0: any free one."""
    _phones: dict[str, Phone] = field(default_factory=dict)
    _updates: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """In place of https://api.twilio.com."""
        return f"http://127.0.0.1:{self.port}"

    def register(self, phone: Phone) -> None:
        """Let requests reach this phone's call."""
        self._phones[phone.identity.call_sid] = phone

    async def __aenter__(self) -> "TwilioRest":
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._updates:
            await asyncio.wait(self._updates.values(), timeout=_STOP_S)
            for task in self._updates.values():
                task.cancel()
            await asyncio.gather(*self._updates.values(), return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    # One request

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            return await self._answer(request)
        except _RefusedError as refusal:
            return web.json_response(
                {
                    "code": refusal.code,
                    "message": refusal.message,
                    "more_info": f"https://www.twilio.com/docs/errors/{refusal.code}",
                    "status": refusal.status,
                },
                status=refusal.status,
            )

    async def _answer(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        user = self._user(request)
        self.requests.append(RestRequest(request.method, request.path, user, form))
        if self.faults:
            fault = self.faults.pop(0)
            if not fault.code:
                return web.Response(status=fault.status, text=fault.message)
            raise _RefusedError(fault.status, fault.code, fault.message)
        if not user:
            raise _RefusedError(401, 20003, "Authenticate")
        phone = self._phone(request)
        if request.method == "POST":
            self._begin(phone, form)
        elif request.method != "GET":
            raise _RefusedError(405, 20004, "Method not allowed")
        if self.hold is not None:
            await self.hold.wait()
        return web.json_response(_resource(phone))

    def _user(self, request: web.Request) -> str:
        """Return who asks; '' if the secret is wrong."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            user, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return ""
        secrets = {self.account_sid: self.auth_token, **self.api_keys}
        good = scheme == "Basic" and colon and secrets.get(user) == secret
        return user if good else ""

    def _phone(self, request: web.Request) -> Phone:
        calls, _, name = request.path.rpartition("/")
        if calls == f"/2010-04-01/Accounts/{self.account_sid}/Calls" and name.endswith(".json"):
            phone = self._phones.get(name.removesuffix(".json"))
            if phone is not None and phone.dialled:
                return phone
        raise _RefusedError(404, 20404, f"The requested resource {request.path} was not found")

    def _begin(self, phone: Phone, form: Mapping[str, str]) -> None:
        """Check what is asked for, and let the phone do it."""
        twiml, url, status = form.get("Twiml"), form.get("Url"), form.get("Status")
        if len(twiml or "") > _TWIML_CHARS:
            raise _RefusedError(400, 32018, f"Twiml is longer than {_TWIML_CHARS} characters")
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise _RefusedError(400, 21205, f"Url is not a valid URL: {url}")
        if status not in (None, "completed", "canceled"):
            raise _RefusedError(400, 20001, f"Status is not valid: {status}")
        if not (twiml or url or status):
            raise _RefusedError(400, 20001, "One of Url, Twiml and Status is needed")
        # Twilio: `canceled` stops calls that are queued or ringing only.
        if phone.over or status == "canceled":
            raise _RefusedError(400, 21220, "Call is not in-progress. Cannot redirect.")
        sid = phone.identity.call_sid
        before = self._updates.get(sid)
        self._updates[sid] = asyncio.create_task(_obey(phone, before, twiml, url, status))


async def _obey(
    phone: Phone,
    before: asyncio.Task[None] | None,
    twiml: str | None,
    url: str | None,
    status: str | None,
) -> None:
    if before is not None:
        await asyncio.wait([before])
    try:
        if status is not None:
            await phone.complete()
        elif url is not None:  # Twilio: then `Twiml` is ignored
            await phone.update(url=url)
        else:
            await phone.update(document=twiml)
    except CallEndedError:
        pass  # the caller was faster


def _resource(phone: Phone) -> dict[str, Any]:
    who = phone.identity
    return {
        "sid": who.call_sid,
        "account_sid": who.account_sid,
        "from": who.from_,
        "to": who.to,
        "direction": "inbound",
        "status": "completed" if phone.over else "in-progress",
        "api_version": "2010-04-01",
        "uri": f"/2010-04-01/Accounts/{who.account_sid}/Calls/{who.call_sid}.json",
    }
