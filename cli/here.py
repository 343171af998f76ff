"""The folder of this machine's data, and what is known of a running `switchboard up`."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Final

from cli.object_store import write_private

DATA: Final = pathlib.Path(os.environ.get("SWITCHBOARD_DATA", ".switchboard"))


def running() -> dict[str, str]:
    """What a running `switchboard up` wrote down: `gateway_url`, `nats_url`, its object store's
    settings (`s3_url`, ...); empty when none.
    """
    try:
        found = json.loads((DATA / "up.json").read_text())
        return {str(key): str(value) for key, value in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


@contextlib.contextmanager
def announced(**known: str) -> Iterator[None]:
    """Let other commands find us while the block runs."""
    file = DATA / "up.json"
    write_private(file, known)  # the object store's keys are in it
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
