"""What goes wrong on purpose. All off by default, except what the real service does every day."""

import dataclasses
import json
from typing import Any

__all__ = ["Faults", "parsed"]

Json = dict[str, Any]

_HOUR_MS = 3_600_000


@dataclasses.dataclass(eq=False)
class Faults:
    """Switches; they may be changed while calls are running.

    Read at the moment each matters, except those that start a clock at `session.created`
    (`drop_after_ms`, `session_ms`, `error_events`).
    """

    first_n: int = 0
    """Only the first n connections suffer; 0 means all of them."""

    http_status: int = 0
    """Refuse the upgrade with this status, e.g. 503."""

    refuse_first_n: int = 0
    """Refuse this many upgrades, with `http_status` or 503, then accept."""

    dial_delay_ms: int = 0
    """Wait before `session.created`."""

    configure_delay_ms: int = 0
    """Answer each `session.update` this much later than usual."""

    reject_update: int = 0
    """Refuse this many `session.update`s of a connection, as if a field were bad."""

    wrong_format: bool = False
    """Come back from `session.update` with 24 kHz PCM, whatever was asked."""

    drop_after_ms: int | None = None
    """Cut the TCP connection, without a close frame, this long after `session.created`."""

    drop_on: str = ""
    """Cut it when a server event of this type has just been sent."""

    drop_on_nth: int = 1
    """`drop_on` waits for the n-th such event of the connection."""

    session_ms: int = _HOUR_MS
    """OpenAI: a session ends after 60 minutes: `error` session_expired, close 1001."""

    error_events: list[tuple[int, Json]] = dataclasses.field(default_factory=list)
    """`(after_ms, error)`: send this `error` so long after `session.created`."""

    fail_response: int = 0
    """The n-th response of a connection ends `failed`; 0 for none."""

    fail_code: str = "rate_limit_exceeded"
    """The code of `fail_response`; "server_error" is an error of that type without a code."""

    stall_response_ms: int = 0
    """Every response begins to speak this much later."""

    late_deltas: bool = True
    """One or two audio deltas follow the `response.done` of a cancelled response."""

    late_done_ms: int = 0
    """A cancelled response says so this much later, perhaps after the next `response.created`."""

    # Counted here, so that new `Faults` count from zero.
    connections_seen: int = dataclasses.field(default=0, init=False, repr=False)
    refusals_made: int = dataclasses.field(default=0, init=False, repr=False)


def parsed(pairs: list[str]) -> Faults:
    """Return the faults of `key=value` texts; raises `ValueError` that names the bad one."""
    fields = {field.name: field for field in dataclasses.fields(Faults) if field.init}
    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        if key not in fields:
            raise ValueError(f"no fault {key!r}; there are: {', '.join(fields)}")
        values[key] = _value(key, fields[key].type, text)
    return Faults(**values)


def _value(key: str, kind: Any, text: str) -> Any:
    if kind is str:
        return text
    try:
        value = json.loads(text.lower() if kind is bool else text)
    except ValueError:
        raise ValueError(f"{key}={text}: not a number, true, false or JSON") from None
    if key == "error_events":
        return [(int(after_ms), dict(error)) for after_ms, error in value]
    return bool(value) if kind is bool else int(value)
