"""The gateway's variables.  A field's description is the remedy shown when it is wrong."""

import ipaddress
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.bus import TOKENS_TTL_S
from shared.settings import Port, ServiceSettings

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name: assume the worst


class GatewaySettings(ServiceSettings):
    """See each field; `_closed_by_default` holds the rules between them."""

    listen_host: str = Field(default="127.0.0.1", description="address to listen on")
    listen_port: Port = Field(default=8080, description="port to listen on; 0 takes any free one")
    public_url: str | None = Field(
        default=None,
        description="how Twilio reaches us, e.g. https://voice.example.com: no path, no query",
    )
    twilio_auth_token: SecretStr | None = Field(
        default=None, description="the account's primary auth token; signs all that Twilio sends"
    )
    twilio_account_sid: str | None = Field(
        default=None,
        pattern=r"^AC[0-9a-f]{32}$",
        description="AC and 32 hex digits; when set, streams of other accounts are refused",
    )
    twilio_api_url: str = Field(
        default="https://api.twilio.com",
        pattern=r"^https?://[^\s/?#]+/?$",
        description="Twilio's REST API: https://api.twilio.com, or of a region, e.g. "
        "https://api.dublin.ie1.twilio.com; no path",
    )
    twilio_api_key_sid: str | None = Field(
        default=None,
        pattern=r"^SK[0-9a-f]{32}$",
        description="SK and 32 hex digits: an API key for transfers and keys, in place of "
        "TWILIO_AUTH_TOKEN; needs TWILIO_API_KEY_SECRET and TWILIO_ACCOUNT_SID",
    )
    twilio_api_key_secret: SecretStr | None = Field(
        default=None, description="the secret of TWILIO_API_KEY_SID"
    )
    stream_token_secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="at least 16 characters, the same for all gateways; default: derived from "
        "TWILIO_AUTH_TOKEN, else random, which only works with a single gateway",
    )
    stream_token_ttl_s: int = Field(
        default=120,
        ge=5,
        # A used token is remembered for TOKENS_TTL_S: one that outlived this could be used again.
        le=TOKENS_TTL_S,
        description="seconds in which Twilio must open the stream it was told to, 5 to 3600",
    )
    allow_bare_stream: bool | None = Field(
        default=None,
        description="whether WS /call works without a token (static TwiML); "
        "default: only while TWILIO_AUTH_TOKEN is not set",
    )
    allow_unsigned: bool = Field(
        default=False,
        description="true lets a gateway without TWILIO_AUTH_TOKEN listen beyond loopback",
    )
    busy_answer: Literal["retry", "say", "reject"] = Field(
        default="retry",
        description="when no worker has room: retry (say BUSY_TEXT, ask again), say or reject",
    )
    busy_retries: int = Field(
        default=3, ge=0, le=20, description="how often retry asks again, 0 to 20"
    )
    busy_text: str = Field(
        default="All our lines are busy. Please hold on.",
        min_length=1,
        max_length=1000,
        description="what a caller hears when no worker has room, 1 to 1000 characters",
    )
    sorry_text: str = Field(
        default="We are sorry, we can't take your call right now. Please try again later.",
        min_length=1,
        max_length=1000,
        description="what a caller hears when something failed, 1 to 1000 characters",
    )
    say_voice: str | None = Field(default=None, description="Twilio's voice for these texts")
    say_language: str | None = Field(default=None, description="their language, e.g. en-GB")
    max_legs: int = Field(
        default=5,
        ge=1,
        le=50,
        description="phone sockets a call may lose and get again, 1 to 50; those that a transfer "
        "or pressed keys replace do not count",
    )
    offer_timeout_s: float = Field(
        default=3,
        gt=0,
        le=4,
        description="seconds a worker has to take a call, above 0 to 4 (asked twice; Twilio "
        "waits 15 in all)",
    )

    open_status: bool = Field(
        default=False,
        description="true serves /tools and /hold-music/* beyond loopback, to anybody: only if "
        "something in front keeps others out",
    )

    @field_validator("public_url")
    @classmethod
    def _public_origin(cls, value: str | None) -> str | None:
        """The origin as Twilio signs it: lower case, no default port."""
        if value is None:
            return None
        try:
            parts = urlsplit(value.strip())
            port = parts.port
        except ValueError:
            raise ValueError("it is not a URL") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError("it must begin with https:// (or http://) and a host")
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("it must be only scheme, host and port")
        return origin(parts.scheme, parts.hostname, port)

    @model_validator(mode="after")
    def _keys_are_whole(self) -> Self:
        if (self.twilio_api_key_sid is None) != (self.twilio_api_key_secret is None):
            raise ValueError("set both TWILIO_API_KEY_SID and TWILIO_API_KEY_SECRET, or neither")
        return self

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if is_loopback(self.listen_host):
            return self
        if self.twilio_auth_token is None and not self.allow_unsigned:
            raise ValueError(
                f"LISTEN_HOST={self.listen_host} can be reached from outside, and without "
                "TWILIO_AUTH_TOKEN anybody could send us calls: set TWILIO_AUTH_TOKEN, listen on "
                "127.0.0.1, or set ALLOW_UNSIGNED=true if something in front keeps others out"
            )
        if self.public_url is None:
            raise ValueError(
                f"LISTEN_HOST={self.listen_host} needs PUBLIC_URL: how Twilio reaches us, "
                "e.g. https://voice.example.com"
            )
        return self

    @property
    def bare_stream_allowed(self) -> bool:
        """Whether a stream may come without a token."""
        if self.allow_bare_stream is not None:
            return self.allow_bare_stream
        return self.twilio_auth_token is None

    @property
    def status_allowed(self) -> bool:
        """Whether the pages about tools and hold music are served."""
        return self.open_status or is_loopback(self.listen_host)

    @property
    def rest_login(self) -> tuple[str, str] | None:
        """Who we are for Twilio's REST API, and the secret; None: it cannot be used."""
        if self.twilio_api_key_sid is not None and self.twilio_api_key_secret is not None:
            return self.twilio_api_key_sid, self.twilio_api_key_secret.get_secret_value()
        if self.twilio_account_sid is not None and self.twilio_auth_token is not None:
            return self.twilio_account_sid, self.twilio_auth_token.get_secret_value()
        return None

    @property
    def origin(self) -> str:
        """`PUBLIC_URL`, or on loopback the address we listen on."""
        return self.public_url or origin("http", self.listen_host, self.listen_port)


def origin(scheme: str, host: str, port: int | None) -> str:
    """`scheme://host:port`, without a port that goes without saying."""
    host = host.strip("[]")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        netloc += f":{port}"
    return f"{scheme}://{netloc}"
