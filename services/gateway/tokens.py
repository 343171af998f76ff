"""Stream tokens: who may open the socket of which call, until when, once.

The webhook's answer carries one in the path of the `<Stream>` URL, because Twilio drops a query
string there.  It is bound to the call id and expires; that it is used only once is seen to by the
caller of `read`, with the nonce.

Pure: no I/O, no clock, no randomness.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final, Literal

from shared.subjects import is_call_id

#: Ours are about 135 characters; anything longer need not be looked at.
TOKEN_MAX_CHARS: Final = 256
NONCE: Final = re.compile(r"[0-9a-f]{32}")
_EXPIRES: Final = re.compile(r"[0-9]{1,12}")
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")


class TokenError(Exception):
    """Not a token of ours, or not any more."""

    def __init__(self, reason: Literal["malformed", "bad_signature", "expired"]) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: whoever holds it may be this call's phone until `expires`."""

    call: str
    expires: int
    """Seconds since 1970."""
    nonce: str
    """32 hex digits, different in each token."""


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _seal(secret: bytes, body: str) -> str:
    return _encode(hmac.digest(secret, body.encode(), hashlib.sha256))


def derive_secret(auth_token: str) -> bytes:
    """A secret that all gateways of the account agree on, and that does not tell the auth token."""
    return hmac.digest(auth_token.encode(), b"switchboard stream token 1", hashlib.sha256)


def mint(secret: bytes, claims: Claims) -> str:
    """The token, made of characters that need no escape in a path."""
    if not is_call_id(claims.call) or NONCE.fullmatch(claims.nonce) is None:
        raise ValueError("a token needs a call id and a nonce of 32 hex digits")
    body = _encode(f"{claims.call}.{claims.expires}.{claims.nonce}".encode())
    return f"{body}.{_seal(secret, body)}"


def read(secret: bytes, token: str, *, now: float) -> Claims:
    """What the token says; raises `TokenError`.

    The seal is checked before the content is looked at.
    """
    parts = _TOKEN.fullmatch(token) if len(token) <= TOKEN_MAX_CHARS else None
    if parts is None:
        raise TokenError("malformed")
    body, seal = parts.groups()
    if not hmac.compare_digest(_seal(secret, body), seal):
        raise TokenError("bad_signature")
    try:
        text = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode("ascii")
        call, expires, nonce = text.split(".")
    except (binascii.Error, ValueError):
        raise TokenError("malformed") from None
    if not (is_call_id(call) and _EXPIRES.fullmatch(expires) and NONCE.fullmatch(nonce)):
        raise TokenError("malformed")
    if now >= int(expires):
        raise TokenError("expired")
    return Claims(call, int(expires), nonce)
