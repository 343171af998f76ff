"""Ids in the service's shape. OpenAI: a prefix and 21 characters, `call_` and 16; opaque."""

import random
import string

__all__ = ["Ids"]

_ALPHABET = string.ascii_letters + string.digits


class Ids:
    """Makes ids from a given source of randomness."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def new(self, prefix: str) -> str:
        """Return a new id such as `item_...`."""
        length = 16 if prefix == "call" else 21
        return f"{prefix}_{''.join(self._rng.choices(_ALPHABET, k=length))}"

    def obfuscation(self) -> str:
        """Return padding of random length. OpenAI: on text-like deltas, not on audio."""
        return "".join(self._rng.choices(_ALPHABET, k=self._rng.randint(4, 12)))
