"""Twilio's signature on webhooks and on the socket's upgrade.

Twilio signs the URL that it used.  That URL is put together from our configuration and the raw path
and query, never from `Host`: behind a proxy we see another scheme, host and port.

Pure: no I/O.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

HEADER: Final = "X-Twilio-Signature"
#: Base64 of a SHA-1 or SHA-256 digest has 28 or 44 characters.
SIGNATURE_MAX_CHARS: Final = 64


class Signatures:
    """Checks with the account's primary auth token.

    Twilio: an account may opt into another key and HMAC-SHA256, named in a header of the request.
    A header must not choose the secret, so the algorithm is an argument and SHA-1 the default.
    """

    def __init__(self, auth_token: str) -> None:
        if not auth_token:
            raise ValueError("an empty auth token would let everybody in")
        self._validator = RequestValidator(auth_token)

    def webhook(
        self,
        url: str,
        params: Mapping[str, str] | str,
        signature: str,
        *,
        algorithm: str | None = None,
    ) -> bool:
        """Whether Twilio sent this request to `url`.

        `params` is the form's multidict itself (a plain dict loses repeated fields), empty for GET,
        or the body of a JSON request.  The port may be in the signed URL or not.
        """
        if not 0 < len(signature) <= SIGNATURE_MAX_CHARS:
            return False
        if isinstance(params, str) and "bodySHA256=" not in url:
            return False  # nothing would vouch for the body
        try:
            return bool(self._validator.validate(url, params, signature, algorithm))
        except ValueError:
            return False  # a path that is no URL's, or not UTF-8: Twilio signed no such thing

    def upgrade(self, origin: str, path: str, signature: str) -> bool:
        """Whether Twilio opens this socket; `origin` has the scheme ws or wss.

        Twilio: no parameters are signed, and sometimes a `/` is appended to the URL.
        """
        return any(self.webhook(url, {}, signature) for url in upgrade_urls(origin, path))


def upgrade_urls(origin: str, path: str) -> list[str]:
    """Every URL that Twilio may have signed for a socket at `path`."""
    bare = path.rstrip("/")
    # In this order the first is nearly always the one; a set would lose the order.
    paths = dict.fromkeys((path, f"{path}/", bare, f"{bare}/"))
    origins = [origin]
    if origin.startswith("wss://") and urlsplit(origin).port is None:
        origins.append(f"{origin}:443")  # the SDK adds :443 for https only, and :80 for wss
    return [one + end for one in origins for end in paths]
