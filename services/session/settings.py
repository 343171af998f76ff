"""The session service's own variables."""

import pathlib

from pydantic import Field, SecretStr, model_validator

from services.session import pricing
from shared.settings import ServiceSettings

OPENAI_URL = "wss://api.openai.com/v1/realtime"


class SessionSettings(ServiceSettings):
    """Model, capacity and prices."""

    openai_api_key: SecretStr | None = Field(
        default=None,
        description="the key for the model; any text for a simulated one",
    )
    openai_realtime_url: str = Field(
        default=OPENAI_URL,
        pattern=r"^wss?://",
        description=(
            "wss://... of the Realtime API; for Azure "
            "wss://RESOURCE.openai.azure.com/openai/v1/realtime; no model in it"
        ),
    )
    max_calls: int = Field(
        default=50, ge=1, le=1000, description="calls one worker owns at most, 1 to 1000"
    )
    prices_file: pathlib.Path | None = Field(
        default=None, description="a JSON file of prices by model (see docs/operations.md)"
    )

    @model_validator(mode="after")
    def _usable(self) -> "SessionSettings":
        if self.openai_api_key is None:
            raise ValueError(
                "OPENAI_API_KEY is not set -- create one at platform.openai.com, "
                "or run `switchboard up` for a simulated model"
            )
        pricing.load(self.prices_file)  # a wrong file is told before the first call
        return self
