"""Structured logs: one line to stdout and one message to ``log.<service>.<level>``.

Messages are static sentences; what varies goes into fields: ``log.info("call started",
extra={"call": call})``.  A field whose name starts with ``private_`` (what a caller said, dialled
or is called) is masked unless `LOG_PRIVATE` is true, and keys of vendors are masked always.
"""

import collections
import datetime
import json
import logging
import re
import sys
from typing import Final

from shared.messages import LogLine

#: Lines waiting for the bus, at most: a NATS outage must not fill the memory.  The oldest go first.
LOG_BACKLOG_LINES: Final = 1000

_KEYS: Final = re.compile(
    r"\b(sk|ek|rk)[-_][A-Za-z0-9_*-]{6,}|\bBearer\s+\S+|(?<=://)[^/\s@]+(?=@)"
)
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def scrub(text: str) -> str:
    """`text` with keys masked, also those in a URL, and writable as UTF-8.

    OpenAI's authentication errors quote parts of the key.  A lone surrogate (half a character, a
    file name) would make the line unwritable, and a log call must never raise.
    """
    return _KEYS.sub("[key]", text.encode(errors="replace").decode())


def to_line(record: logging.LogRecord, service: str, *, show_private: bool) -> LogLine:
    """The structured form of a log record."""
    fields: dict[str, object] = {}
    for name, value in vars(record).items():
        if name in _STANDARD:
            continue
        if name.startswith("private_") and not show_private:
            fields[name] = "[private]"
        elif isinstance(value, bool | int | float) or value is None:
            fields[name] = value
        else:
            fields[name] = scrub(str(value))[:2000]
    if record.exc_info:
        fields["exception"] = scrub(logging.Formatter().formatException(record.exc_info))[:8000]
    return LogLine(
        at=datetime.datetime.fromtimestamp(record.created, datetime.UTC),
        service=service,
        level=record.levelname.lower(),
        message=scrub(record.getMessage())[:2000],
        fields=fields,
    )


def to_text(line: LogLine) -> str:
    """For people: time, level, message, then fields."""
    fields = " ".join(f"{name}={value}" for name, value in line.fields.items())
    stamp = line.at.strftime("%H:%M:%S.%f")[:-3]
    return f"{stamp} {line.level.upper():7} {line.service:9} {line.message} {fields}".rstrip()


class Logs(logging.Handler):
    """Writes stdout at once and keeps a bounded backlog for the bus to publish."""

    def __init__(self, service: str, *, text: bool = False, show_private: bool = False) -> None:
        super().__init__()
        self.service = service
        self._text = text
        self._show_private = show_private
        #: Waiting for the bus; emptied by `shared.bus.Bus`.
        self.backlog: collections.deque[LogLine] = collections.deque(maxlen=LOG_BACKLOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """One line to stdout and to the backlog."""
        line = to_line(record, self.service, show_private=self._show_private)
        if self._text:
            out = to_text(line)
        else:
            flat = {**line.fields, **line.model_dump(mode="json", exclude={"fields"})}
            out = json.dumps(flat, ensure_ascii=False)
        sys.stdout.write(out + "\n")
        sys.stdout.flush()
        self.backlog.append(line)


def configure(service: str, *, level: str, text: bool, show_private: bool) -> Logs:
    """Make `Logs` the only handler of this process."""
    handler = Logs(service, text=text, show_private=show_private)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Their INFO lines are per request and per reconnect attempt; ours name the call.
    for name in ("aiohttp.access", "nats", "websockets", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler
