"""Settings from the environment (and `.env`), checked all at once before anything starts.

Every service has its own class with its own variables, so none can read another's secrets.
"""

import sys
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]


class EnvironmentSettings(BaseSettings):
    """Settings from the environment, and behind it from `.env`."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_unset(cls, values: Any) -> Any:
        """A variable set to nothing (`PUBLIC_URL=`) is unset, not wrong.

        An empty auth token in particular must never count as a token.  It still hides the one in
        `.env`, which `env_ignore_empty` of pydantic-settings would not.
        """
        return {name: value for name, value in values.items() if value != ""}


class ServiceSettings(EnvironmentSettings):
    """What every service reads.  A field's description is the remedy shown when it is wrong."""

    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        pattern=r"^(nats|tls|ws|wss)://",
        description="where NATS is, e.g. nats://127.0.0.1:4222 (several: comma between)",
    )
    nats_user: str | None = Field(default=None, description="this service's NATS user, if any")
    nats_password: SecretStr | None = Field(default=None, description="its password")
    js_replicas: int = Field(
        default=1, ge=1, le=5, description="JetStream copies: 1 on one server, 3 in a cluster"
    )
    events_max_age_h: float = Field(
        default=168, gt=0, description="hours that the stream EVENTS keeps a call's story"
    )
    events_max_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="bytes that the stream EVENTS may take on disk, at least 1048576",
    )
    calls_ttl_h: float = Field(
        default=24, ge=1, description="hours that the owner record of a call is kept, at least 1"
    )
    health_host: str = Field(
        default="127.0.0.1", description="address for /healthz, /readyz and /metrics"
    )
    health_port: Port = Field(default=0, description="its port; 0 takes any free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json for machines, text for people"
    )
    log_private: bool = Field(
        default=False, description="true shows callers' words and numbers in logs: never live"
    )
    drain_s: float = Field(
        default=25,
        ge=0,
        le=3600,
        description="seconds that a stopping service waits for its calls, 0 to 3600",
    )


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def faults(error: ValidationError, kind: type[BaseSettings]) -> list[str]:
    """One line for each wrong variable: its name, what is wrong, and the remedy."""
    lines = []
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        field = kind.model_fields.get(name)
        remedy = field.description if field is not None else None
        variable = name.upper() or "settings"
        # Never the value itself: it may be a key.
        lines.append(f"{variable}: {fault['msg']}" + (f" -- {remedy}" if remedy else ""))
    return lines


def load(kind: type[SettingsT], **overrides: Any) -> SettingsT:
    """Settings of `kind` from the environment, or exit 2 with every fault on standard error."""
    try:
        return kind(**overrides)
    except ValidationError as error:
        _refuse(faults(error, kind))


def _refuse(lines: list[str]) -> NoReturn:
    out = ["The settings are not usable:"] + [f"  {line}" for line in lines]
    out.append("Set them in the environment or in .env (see .env.example).")
    sys.stderr.write("\n".join(out) + "\n")
    raise SystemExit(2)
