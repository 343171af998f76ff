"""X-Twilio-Signature, made from Twilio's description of it and nothing else.

Deliberately not the `twilio` package: the gateway checks signatures with that one, and a mistake
shared by both ends would never be noticed.

Twilio: base64 of HMAC-SHA1, keyed with the account's primary Auth Token, over the full URL
followed by every POST parameter in the order of the names' bytes, each name immediately followed
by its value. A WebSocket upgrade is signed over its `wss://` URL alone.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

__all__ = ["sign", "signed_url"]


def sign(auth_token: str, url: str, params: Iterable[tuple[str, str]] = ()) -> str:
    """Return the X-Twilio-Signature of a request to `url` with these form fields."""
    # Twilio: of a repeated name, the distinct values count, sorted. Blank values count too.
    fields = sorted({(name.encode(), value.encode()) for name, value in params})
    message = signed_url(url).encode() + b"".join(name + value for name, value in fields)
    digest = hmac.new(auth_token.encode(), message, hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


def signed_url(url: str) -> str:
    """Return the URL in the form in which it enters the signature."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]  # Twilio: user and password are removed
    if parts.scheme == "https" and parts.port is not None:
        host = host.removesuffix(f":{parts.port}")  # Twilio: dropped for HTTPS voice callbacks
    return urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
