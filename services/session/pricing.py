"""What the model costs.  Prices are configuration: `prices.json`, or the file `PRICES_FILE` names.

Pure but for `load`, which reads the file once at start.
"""

import pathlib
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.messages import Tokens

DEFAULT_FILE: Final = pathlib.Path(__file__).with_name("prices.json")


class Price(BaseModel):
    """USD per million tokens, by kind; `minute` is USD per minute of transcribed audio."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text_in: float = Field(default=0, ge=0)
    cached_text_in: float = Field(default=0, ge=0)
    audio_in: float = Field(default=0, ge=0)
    cached_audio_in: float = Field(default=0, ge=0)
    image_in: float = Field(default=0, ge=0)
    cached_image_in: float = Field(default=0, ge=0)
    text_out: float = Field(default=0, ge=0)
    audio_out: float = Field(default=0, ge=0)
    minute: float = Field(default=0, ge=0)


class Prices:
    """Prices by model name; a dated or suffixed name falls back to the longest known prefix."""

    def __init__(self, prices: dict[str, Price]) -> None:
        self._prices = prices

    def of(self, model: str) -> Price | None:
        """The price of `model`, or None when nobody told us."""
        names = [name for name in self._prices if model == name or model.startswith(f"{name}-20")]
        return self._prices[max(names, key=len)] if names else None

    def cost(self, model: str, tokens: Tokens, seconds: float = 0) -> float | None:
        """USD for `tokens` and for `seconds` of transcription; None when the price is unknown.

        OpenAI: cached tokens are part of the input and billed at their own price instead.
        """
        price = self.of(model)
        if price is None:
            return None
        per_million = (
            max(0, tokens.text_in - tokens.cached_text_in) * price.text_in
            + tokens.cached_text_in * price.cached_text_in
            + max(0, tokens.audio_in - tokens.cached_audio_in) * price.audio_in
            + tokens.cached_audio_in * price.cached_audio_in
            + max(0, tokens.image_in - tokens.cached_image_in) * price.image_in
            + tokens.cached_image_in * price.cached_image_in
            + tokens.text_out * price.text_out
            + tokens.audio_out * price.audio_out
        )
        return per_million / 1_000_000 + seconds / 60 * price.minute


class Bill:
    """The tokens and the cost of one call so far."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._cost_usd = 0.0
        self.tokens = Tokens()

    @property
    def cost_usd(self) -> float:
        """USD, to the millionth; without what has no known price."""
        return round(self._cost_usd, 6)

    def add(self, model: str, tokens: Tokens, seconds: float = 0) -> float | None:
        """Add one response or transcription; its own cost, None when the price is unknown."""
        cost = self._prices.cost(model, tokens, seconds)
        mine, other = self.tokens.model_dump(), tokens.model_dump()
        self.tokens = Tokens(**{kind: mine[kind] + other[kind] for kind in mine})
        self._cost_usd += cost or 0.0
        return cost


def load(path: pathlib.Path | None = None) -> Prices:
    """Read a price file.  Raises `ValueError` naming the file and what is wrong with it."""
    file = path or DEFAULT_FILE
    try:
        prices = TypeAdapter(dict[str, Price]).validate_json(file.read_bytes())
    except OSError as error:
        raise ValueError(f"PRICES_FILE {file}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"PRICES_FILE {file}: {where}: {first['msg']}") from error
    return Prices(prices)
