"""The tools service's variables.  A field's description is the remedy shown when it is wrong."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from shared.settings import ServiceSettings


class ToolsSettings(ServiceSettings):
    """See each field."""

    tools_max_running: int = Field(
        default=200, ge=1, le=10_000, description="requests answered at once, 1 to 10000"
    )
    open_meteo_url: str = Field(
        default="https://api.open-meteo.com",
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
        description="Open-Meteo or a copy of it, e.g. https://api.open-meteo.com",
    )
    open_meteo_geocoding_url: str = Field(
        default="https://geocoding-api.open-meteo.com",
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
        description="its geocoding, e.g. https://geocoding-api.open-meteo.com",
    )
    open_meteo_api_key: SecretStr | None = Field(
        default=None,
        description="a customer's key, for OPEN_METEO_URL=https://customer-api.open-meteo.com and "
        "OPEN_METEO_GEOCODING_URL=https://customer-geocoding-api.open-meteo.com",
    )
    weather_units: Literal["metric", "imperial"] = Field(
        default="metric", description="metric (Celsius, km/h) or imperial (Fahrenheit, mph)"
    )
    weather_timeout_s: float = Field(
        default=3,
        gt=0,
        le=30,
        description="seconds that Open-Meteo has for one answer, above 0 to 30",
    )
    weather_cache_s: float = Field(
        default=300, ge=0, le=86_400, description="seconds that an answer is reused, 0 to 86400"
    )
    # Shown nowhere: it holds the database's password.
    database_url: str = Field(
        default="sqlite+aiosqlite:///.switchboard/prescriptions.db",
        pattern=r"^(sqlite|sqlite\+aiosqlite|postgres|postgresql|postgresql\+asyncpg)://",
        repr=False,
        description="sqlite:///path/to/file.db or postgresql://user:password@host/name",
    )
    seed_prescriptions: bool = Field(
        default=True,
        description="true fills an empty database with sample patients; false for a real one",
    )
    verify_by_number: bool = Field(
        default=True,
        description="whether the number that calls can prove who calls; false asks for the date "
        "of birth always, for a caller's number can be forged",
    )
    verification_tries: int = Field(
        default=5, ge=1, le=20, description="wrong answers before a call is locked, 1 to 20"
    )

    @field_validator("open_meteo_url", "open_meteo_geocoding_url")
    @classmethod
    def _no_slash_at_the_end(cls, value: str) -> str:
        return value.rstrip("/")
