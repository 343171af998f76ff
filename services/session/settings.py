"""The session service's own variables."""

import pathlib

from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from services.session import pricing
from shared.settings import ServiceSettings

OPENAI_URL = "wss://api.openai.com/v1/realtime"


class SessionSettings(ServiceSettings):
    """Model, capacity and prices."""

    openai_api_key: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description=(
            "the key for the model, from platform.openai.com; any text for a simulated one "
            "(`switchboard up` has one)"
        ),
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

    # A validator for each field, so that all faults are told at once.

    @field_validator("openai_api_key")
    @classmethod
    def _is_set(cls, key: SecretStr | None) -> SecretStr:
        if key is None or not key.get_secret_value():
            raise PydanticCustomError("missing", "is not set")
        return key

    @field_validator("prices_file")
    @classmethod
    def _is_usable(cls, file: pathlib.Path | None) -> pathlib.Path | None:
        try:
            pricing.load(file)  # a wrong file is told before the first call
        except ValueError as error:
            raise PydanticCustomError("prices", "{why}", {"why": str(error)}) from error
        return file
