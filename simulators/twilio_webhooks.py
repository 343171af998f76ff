"""Twilio's HTTP side of one call: asks for TwiML, tells status callbacks; everything signed."""

import asyncio
import email.utils
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urldefrag, urlencode

import aiohttp
from yarl import URL

from simulators import twilio_signature, twiml
from simulators.phone_journal import Journal

__all__ = ["CallIdentity", "Webhooks", "new_sid"]

_ANSWER_S = 15
"""Twilio, error 11205: 15 s for the whole answer, connecting included."""

_CONNECT_S = 10
"""Twilio, error 11205: 10 s to connect."""

_BODY_BYTES = 64 * 1024
"""Twilio, error 11750: a document is at most 64 kB."""

_CALLBACKS_END_S = 5.0
"""How long the end of a call waits for answers to status callbacks, which nobody reads."""

_TWIML_TYPES = {"text/xml", "application/xml", "text/html"}


def new_sid(prefix: str) -> str:
    """Return a new identifier in Twilio's form: two letters and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """Who calls whom."""

    account_sid: str
    call_sid: str
    from_: str
    to: str

    def parameters(self, call_status: str) -> dict[str, str]:
        """Return what Twilio sends with every webhook of a call, blank values included."""
        places = {
            f"{who}{what}": value
            for who in ("Called", "Caller", "From", "To")
            for what, value in (("City", ""), ("State", "CA"), ("Zip", ""), ("Country", "US"))
        }
        return places | {
            "AccountSid": self.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.call_sid,
            "CallStatus": call_status,
            "CallToken": '{"parentCallInfoToken":"simulated","identityHeaderTokens":[]}',
            "Called": self.to,
            "Caller": self.from_,
            "Direction": "inbound",
            "From": self.from_,
            "StirVerstat": "TN-Validation-Passed-A",
            "To": self.to,
        }


class Webhooks:
    """Makes the signed requests of one call. Use it as an async context manager."""

    def __init__(self, identity: CallIdentity, *, auth_token: str | None, journal: Journal) -> None:
        self.identity = identity
        self._auth_token = auth_token
        self._journal = journal
        self._http: aiohttp.ClientSession | None = None
        self._callbacks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._http = aiohttp.ClientSession(
            # Twilio keeps cookies for the length of a call; `unsafe` is for hosts that are numbers.
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            timeout=aiohttp.ClientTimeout(total=_ANSWER_S, connect=_CONNECT_S),
            headers={"User-Agent": "TwilioProxy/1.1", "Accept": "*/*"},
        )

    async def close(self) -> None:
        """Let the callbacks on their way arrive, within reason, and close."""
        if self._callbacks:
            _, late = await asyncio.wait(self._callbacks, timeout=_CALLBACKS_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    def upgrade_headers(self, url: str) -> dict[str, str]:
        """Return the headers that sign the opening of a WebSocket."""
        if self._auth_token is None:
            return {}
        return {"X-Twilio-Signature": twilio_signature.sign(self._auth_token, url)}

    async def fetch(
        self, url: str, method: str, call_status: str, more: Mapping[str, str] | None = None
    ) -> twiml.Document:
        """Ask for the next document; raise `TwimlError` with Twilio's code if it cannot be used.

        `more` are the parameters of the verb whose `action` this is.
        """
        try:
            status, content_type, body = await self._request(
                url, method, self.identity.parameters(call_status) | dict(more or {})
            )
        except TimeoutError:
            raise twiml.TwimlError(11205, f"no answer from {url} in {_ANSWER_S} s") from None
        except (aiohttp.ClientError, ValueError) as exc:
            raise twiml.TwimlError(11205, f"cannot reach {url}: {exc}") from None
        if status != 200:
            raise twiml.TwimlError(11200, f"{url} answered {status}")
        if len(body) > _BODY_BYTES:
            raise twiml.TwimlError(11750, f"{url} answered more than {_BODY_BYTES} bytes")
        text = body.decode(errors="replace")
        if content_type == "text/plain":  # Twilio: carried out if it is TwiML, else read aloud
            try:
                return twiml.parse(text, url)
            except twiml.TwimlError:
                return twiml.Document((twiml.Say(text),), ())
        if content_type not in _TWIML_TYPES:
            raise twiml.TwimlError(12300, f"{url} answered {content_type or 'no content type'}")
        return twiml.parse(text, url)

    def call_completed(self, url: str, call_status: str, duration_s: float) -> None:
        """Tell the number's status callback that the call is over."""
        seconds = round(duration_s)
        self._call_back(
            url,
            "POST",
            self.identity.parameters(call_status)
            | {
                "CallDuration": str(seconds),
                "Duration": str(-(-seconds // 60)),  # Twilio: in minutes, begun ones count
                "CallbackSource": "call-progress-events",
                "SequenceNumber": "0",
                "Timestamp": email.utils.format_datetime(datetime.now(UTC)),
            },
        )

    def stream_event(
        self, stream: twiml.Stream, stream_sid: str, event: str, error: str = ""
    ) -> None:
        """Tell a stream's status callback, if it has one."""
        if not stream.status_callback:
            return
        parameters = {
            "AccountSid": self.identity.account_sid,
            "CallSid": self.identity.call_sid,
            "StreamSid": stream_sid,
            "StreamName": stream.name or stream_sid,  # Twilio: the name defaults to the SID
            "StreamEvent": event,
            # Twilio: ISO 8601 here, RFC 2822 everywhere else; captures show nine digits.
            "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z"),
        }
        if error:
            parameters["StreamError"] = error
        self._call_back(stream.status_callback, stream.status_callback_method, parameters)

    def _call_back(self, url: str, method: str, parameters: Mapping[str, str]) -> None:
        task = asyncio.create_task(self._send_callback(url, method, parameters))
        self._callbacks.add(task)
        task.add_done_callback(self._callbacks.discard)

    async def _send_callback(self, url: str, method: str, parameters: Mapping[str, str]) -> None:
        try:
            status, _, _ = await self._request(url, method, parameters)
        except (TimeoutError, aiohttp.ClientError, ValueError) as exc:
            self._journal.warn(15003, f"status callback {url}: {exc!r}")
            return
        what = parameters.get("StreamEvent") or parameters["CallStatus"]
        self._journal.note("status_callback", f"{what}, answered {status}")
        if status >= 400:
            self._journal.warn(15003, f"status callback {url} answered {status}")

    async def _request(
        self, url: str, method: str, parameters: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        assert self._http is not None, "open() comes first"
        url = urldefrag(url).url  # the fragment is for Twilio, and is not signed
        form = None
        if method == "GET":
            url += ("&" if "?" in url else "?") + urlencode(parameters)
        else:
            form = aiohttp.FormData(list(parameters.items()), charset="utf-8")
        # Stable across retries of one request; there are no retries here, so always a new one.
        headers = {"I-Twilio-Idempotency-Token": str(uuid.uuid4())}
        if self._auth_token is not None:
            signed = () if form is None else parameters.items()
            headers["X-Twilio-Signature"] = twilio_signature.sign(self._auth_token, url, signed)
        async with self._http.request(
            method,
            URL(url, encoded=True),  # sent exactly as signed
            data=form,
            headers=headers,
            allow_redirects=False,
        ) as response:
            body = await response.content.read(_BODY_BYTES + 1)
            while len(body) <= _BODY_BYTES and (more := await response.content.readany()):
                body += more
            return response.status, response.content_type, body
