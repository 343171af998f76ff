"""Every NATS subject, and the only place where one is put together.

A subject is made from ids that come from outside (Twilio, a browser, a URL).  An id that is not one
safe token could reach another call's subject (``*``, ``>``, ``.``), so anything else is refused
before it becomes part of a subject: every function here raises `UnsafeTokenError` then.

Pure: no I/O.
"""

import re
from typing import Final

#: Twilio's CallSid is ``CA`` + 32 hex digits; a browser call gets ``BR`` + 32 hex digits.
CALL_ID: Final = re.compile(r"(CA|BR)[0-9a-f]{32}")
#: One NATS token as we use it for workers, services and event names: no dot, no wildcard, no blank.
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

#: A gateway asks for one session worker (queue group `WORKERS`).  No responders = no capacity.
OFFER: Final = "calls.offer"
WORKERS: Final = "session"

#: One hold-music instance (queue group `MUSICIANS`) plays into a call, or tells of itself.
HOLD_PLAY: Final = "holdmusic.play"
HOLD_STATUS: Final = "holdmusic.status"
HOLD_FILES: Final = "holdmusic.files"
MUSICIANS: Final = "holdmusic"

#: One instance of the logs service (queue group `KEEPERS`) answers about calls; all of them share
#: what the stream's consumer delivers.
LOGS_LIST: Final = "logs.list"
LOGS_CALL: Final = "logs.call"
LOGS_EXPORT: Final = "logs.export"
LOGS_DELIVERY: Final = "logs.delivery"
KEEPERS: Final = "logs"

#: What observers and JetStream subscribe to.
ALL_EVENTS: Final = "call.*.event.>"
ALL_BEATS: Final = "session.*.beat"

#: What every hold-music instance subscribes to, once for all calls.
ALL_HOLD_STOPS: Final = "call.*.hold.*.stop"

#: JetStream names.
EVENTS_STREAM: Final = "EVENTS"
AGENTS_BUCKET: Final = "agents"
CALLS_BUCKET: Final = "calls"
TOKENS_BUCKET: Final = "stream_tokens"
RECORDS_BUCKET: Final = "records"
RECORDS_CONSUMER: Final = "logs"


class UnsafeTokenError(ValueError):
    """An id that must not become part of a subject."""

    def __init__(self, what: str, value: object) -> None:
        super().__init__(f"{what} is not one safe token: {value!r:.80}")
        self.what = what


def is_call_id(value: object) -> bool:
    """Whether `value` is a call id: ``CA`` or ``BR`` and 32 lower-case hex digits."""
    return isinstance(value, str) and CALL_ID.fullmatch(value) is not None


def _call(call: str) -> str:
    if not is_call_id(call):
        raise UnsafeTokenError("call id", call)
    return call


def _token(what: str, value: object) -> str:
    if not isinstance(value, str) or TOKEN.fullmatch(value) is None:
        raise UnsafeTokenError(what, value)
    return value


def _number(what: str, value: object) -> int:
    # bool is an int in Python, and "True" in a subject would be a silent mistake.
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UnsafeTokenError(what, value)
    return value


def command(call: str) -> str:
    """Requests to the call's owner: attach a leg, hang up."""
    return f"call.{_call(call)}.cmd"


def up(call: str, leg: int, kind: str = "*") -> str:
    """From the phone to the owner: `kind` is ``audio`` or ``ctl``; ``*`` subscribes to both.

    One subscription for both keeps them in the order in which the gateway sent them.
    """
    return f"call.{_call(call)}.up.{_number('leg', leg)}.{_stream_kind(kind)}"


def down(call: str, epoch: int, kind: str = "*") -> str:
    """From the owner of `epoch` to the phone: ``audio`` or ``ctl``; ``*`` subscribes to both.

    A late message from a dead owner carries an old epoch and goes to a subject nobody listens to.
    """
    return f"call.{_call(call)}.down.{_number('epoch', epoch)}.{_stream_kind(kind)}"


def hold_audio(call: str, hold: int) -> str:
    """Music for the `hold`-th hold of a call, paced; the gateway plays it while that hold is on."""
    return f"call.{_call(call)}.hold.{_number('hold', hold)}.audio"


def hold_stop(call: str, hold: int) -> str:
    """The owner wants the music of this hold to stop."""
    return f"call.{_call(call)}.hold.{_number('hold', hold)}.stop"


def tool(name: str) -> str:
    """Where a tool answers function calls: a NATS micro service's endpoint."""
    return f"tool.{_token('tool', name)}"


def _stream_kind(kind: str) -> str:
    if kind not in ("audio", "ctl", "*"):
        raise UnsafeTokenError("stream kind", kind)
    return kind


def event(call: str, name: str) -> str:
    """One line of a call's story; kept by the stream `EVENTS_STREAM`."""
    return f"call.{_call(call)}.event.{_token('event name', name)}"


def all_events(call: str) -> str:
    """The whole story of one call, for a reader."""
    return f"call.{_call(call)}.event.>"


def beat(worker: str) -> str:
    """Every 500 ms from each session worker: alive, active, max, draining."""
    return f"session.{_token('worker', worker)}.beat"


def log(service: str, level: str) -> str:
    """Structured log lines, for ``nats sub 'log.>'``."""
    return f"log.{_token('service', service)}.{_token('level', level)}"
