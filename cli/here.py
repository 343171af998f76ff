"""The folder of this machine's data, and what is known of a running `switchboard up`."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Final

DATA: Final = pathlib.Path(os.environ.get("SWITCHBOARD_DATA", ".switchboard"))


def running() -> dict[str, str]:
    """What a running `switchboard up` wrote down: `gateway_url`, `nats_url`; empty when none."""
    try:
        found = json.loads((DATA / "up.json").read_text())
        return {str(key): str(value) for key, value in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


@contextlib.contextmanager
def announced(**known: str) -> Iterator[None]:
    """Let other commands find us while the block runs."""
    DATA.mkdir(parents=True, exist_ok=True)
    file = DATA / "up.json"
    file.write_text(json.dumps(known))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
