"""Twilio's REST API, as far as a call in progress needs it: give the call new TwiML, or end it.

Twilio: an update replaces the running TwiML, so the stream gets `stop` and ends.
"""

import asyncio
import json
import logging
import re
from base64 import b64encode
from types import TracebackType
from typing import Final, Self

import aiohttp

from services.gateway import metrics

log = logging.getLogger(__name__)

#: One request, its second try included.  Twilio answers within a second; the owner waits for us.
TIMEOUT_S: Final = 5.0
#: Before the second try.
RETRY_AFTER_S: Final = 0.3
TRIES_MAX: Final = 2
#: Twilio: more in the parameter `Twiml` is error 32018.
TWIML_MAX_CHARS: Final = 4000
#: A call resource has 2 kB, an error 200 bytes.
ANSWER_MAX_BYTES: Final = 64 * 1024
MESSAGE_MAX_CHARS: Final = 256
#: Twilio: no such call; the call is in a state that does not allow it, so it is over.
GONE: Final = frozenset({20404, 21220})
#: A vendor's message may repeat a number or an account id.
_NUMBERS: Final = re.compile(r"\+?\d{6,}|\b[A-Z]{2}[0-9a-f]{32}\b")


class RestError(Exception):
    """Twilio did not do it.  `code` is Twilio's own as text, or a word of ours.

    Ours: `no_credentials`, `unreachable`, `timeout`, `call_gone`, `http_<status>`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = _NUMBERS.sub("…", message)[:MESSAGE_MAX_CHARS]


class Rest:
    """One account's calls.  Use it as an async context manager, inside a running loop."""

    def __init__(self, url: str, account: str | None, login: tuple[str, str] | None) -> None:
        """`login` is (account SID, auth token) or (API key's SID, its secret)."""
        self._calls = f"{url.rstrip('/')}/2010-04-01/Accounts/{account}/Calls"
        self._auth: dict[str, str] | None = None
        if login is not None and account is not None:
            self._auth = {"Authorization": f"Basic {b64encode(':'.join(login).encode()).decode()}"}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A connection is not kept: requests are minutes apart, and on one that Twilio has closed
        # meanwhile nobody knows whether an update was carried out.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),  # `TIMEOUT_S` is for both tries
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def update(self, call: str, *, twiml: str) -> None:
        """Replace what the call does; raises `RestError`."""
        if len(twiml) > TWIML_MAX_CHARS:
            raise RestError("32018", f"the TwiML has {len(twiml)} characters")
        await self._post(call, {"Twiml": twiml})

    async def complete(self, call: str) -> None:
        """End the call; raises `RestError`."""
        await self._post(call, {"Status": "completed"})

    async def _post(self, call: str, form: dict[str, str]) -> None:
        if self._auth is None:
            raise RestError(
                "no_credentials",
                "set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_API_KEY_SID and "
                "TWILIO_API_KEY_SECRET",
            )
        with metrics.REST_SECONDS.time():
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._try_twice(call, form)
            except TimeoutError:
                raise RestError("timeout", f"no answer within {TIMEOUT_S:g} s") from None

    async def _try_twice(self, call: str, form: dict[str, str]) -> None:
        for attempt in range(1, TRIES_MAX + 1):
            try:
                status, body = await self._try(call, form)
            except aiohttp.ClientConnectorError:
                # Nothing was sent, so asking again does no harm.
                if attempt == TRIES_MAX:
                    raise RestError("unreachable", "the REST API cannot be reached") from None
            except aiohttp.ClientError as error:
                raise RestError("unreachable", type(error).__name__) from None
            else:
                # Twilio, error 20429: such a request was never processed.
                if status != 429 or attempt == TRIES_MAX:
                    _check(status, body)
                    return
            await asyncio.sleep(RETRY_AFTER_S)

    async def _try(self, call: str, form: dict[str, str]) -> tuple[int, bytes]:
        assert self._http is not None, "used outside its block"
        async with self._http.post(
            f"{self._calls}/{call}.json", data=form, headers=self._auth, allow_redirects=False
        ) as answer:
            body = b""
            while len(body) < ANSWER_MAX_BYTES and (more := await answer.content.readany()):
                body += more
            return answer.status, body


def _check(status: int, body: bytes) -> None:
    """Raises what Twilio objects to."""
    if status < 300:
        return
    code, message = _objection(body)
    if status == 404 or code in GONE:
        raise RestError("call_gone", message or "there is no such call any more")
    raise RestError(str(code) if code else f"http_{status}", message)


def _objection(body: bytes) -> tuple[int, str]:
    """Twilio's error code and what it says; (0, "") when this is not Twilio's JSON."""
    try:
        match json.loads(body):
            case {"code": int(code), "message": str(message)}:
                return code, message
            case _:
                return 0, ""
    except ValueError:
        return 0, ""  # a proxy's page
