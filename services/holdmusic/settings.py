"""The service's variables.  A field's description is the remedy shown when it is wrong."""

import pathlib
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.settings import EnvironmentSettings, ServiceSettings

#: S3's rule for names of buckets.
BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where one bucket is, and how to get in."""

    name: Literal["primary", "fallback"]
    url: str
    bucket: str
    access_key: str | None
    #: Not shown: a dataclass would print it.
    secret_key: SecretStr | None
    region: str | None
    timeout_s: float


class S3Settings(EnvironmentSettings):
    """The stores; the command `switchboard tracks` reads these and nothing else."""

    s3_url: str | None = Field(
        default=None,
        description="the object store with the tracks, e.g. http://127.0.0.1:8333: scheme, host "
        "and port only; none: the tracks on disk and the built-in one",
    )
    s3_access_key: str | None = Field(default=None, description="its access key id")
    s3_secret_key: SecretStr | None = Field(default=None, description="its secret access key")
    s3_region: str | None = Field(
        default=None, description="its region; R2: auto; default: asked of the store"
    )
    s3_bucket: str = Field(
        default="hold-music",
        pattern=BUCKET,
        description="the bucket, 3 to 63 lower-case letters, digits, dots and dashes; it is made "
        "when it does not exist and the keys allow it",
    )
    s3_fallback_url: str | None = Field(
        default=None, description="a second store for when the first is away, e.g. another region"
    )
    s3_fallback_access_key: str | None = Field(default=None, description="its access key id")
    s3_fallback_secret_key: SecretStr | None = Field(
        default=None, description="its secret access key"
    )
    s3_fallback_region: str | None = Field(default=None, description="its region")
    s3_fallback_bucket: str = Field(
        default="hold-music", pattern=BUCKET, description="its bucket, see S3_BUCKET"
    )
    s3_timeout_s: float = Field(
        default=5,
        gt=0,
        le=60,
        description="seconds that a store may be silent before it counts as away, above 0 to 60",
    )
    track_limit_bytes: int = Field(
        default=50_000_000,
        ge=1000,
        le=1_000_000_000,
        description="bytes of one track's file, 1000 to 1000000000",
    )
    track_limit_s: int = Field(
        default=1800, ge=1, le=7200, description="seconds that one track may last, 1 to 7200"
    )

    @field_validator("s3_url", "s3_fallback_url")
    @classmethod
    def _only_an_origin(cls, value: str | None) -> str | None:
        """Credentials in a URL would end in a status page; a path would be ignored."""
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise ValueError("it is not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must begin with http:// or https:// and a host")
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("it must be only scheme, host and port")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{port}" if port else "")

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        for name, one, other in (
            ("S3_", self.s3_access_key, self.s3_secret_key),
            ("S3_FALLBACK_", self.s3_fallback_access_key, self.s3_fallback_secret_key),
        ):
            if (one is None) != (other is None):
                raise ValueError(
                    f"{name}ACCESS_KEY and {name}SECRET_KEY belong together: set both, or none "
                    "for a bucket that everybody may read"
                )
        return self

    @property
    def stores(self) -> list[StoreAddress]:
        """The configured stores, in the order in which they are asked."""
        found = []
        if self.s3_url is not None:
            found.append(
                StoreAddress(
                    "primary",
                    self.s3_url,
                    self.s3_bucket,
                    self.s3_access_key,
                    self.s3_secret_key,
                    self.s3_region,
                    self.s3_timeout_s,
                )
            )
        if self.s3_fallback_url is not None:
            found.append(
                StoreAddress(
                    "fallback",
                    self.s3_fallback_url,
                    self.s3_fallback_bucket,
                    self.s3_fallback_access_key,
                    self.s3_fallback_secret_key,
                    self.s3_fallback_region,
                    self.s3_timeout_s,
                )
            )
        return found


class HoldMusicSettings(S3Settings, ServiceSettings):
    """Stores, cache and capacity."""

    hold_track: str | None = Field(
        default=None,
        max_length=512,
        description="key of the track that plays when none is named; default: the first by name",
    )
    music_cache: pathlib.Path = Field(
        default=pathlib.Path(".switchboard/music"), description="folder for decoded tracks"
    )
    music_cache_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=1024 * 1024,
        description="bytes that it may take, at least 1048576; tracks not played for long go first",
    )
    music_refresh_s: float = Field(
        default=30,
        ge=1,
        le=3600,
        description="seconds between two looks at the stores for new tracks, 1 to 3600",
    )
    max_holds: int = Field(
        default=100, ge=1, le=10_000, description="calls that hear music at once, 1 to 10000"
    )
