"""Log lines: structured, scrubbed of keys, silent about what callers say."""

import json
import logging
from typing import Any

import pytest

from shared.logs import LOG_BACKLOG_LINES, Logs, scrub, to_line, to_text

pytestmark = pytest.mark.unit


def record(message: str, *arguments: object, **fields: Any) -> logging.LogRecord:
    logger = logging.getLogger("test")
    return logger.makeRecord(
        "test", logging.INFO, __file__, 1, message, arguments, None, "f", fields
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Incorrect API key provided: sk-proj-abc123def456.", "Incorrect API key provided: [key]."),
        ("sk-********************wxyz", "[key]"),
        ("ek_68af296e8e408191a1120ab6383263c2", "[key]"),
        ("Authorization: Bearer abc.def", "Authorization: [key]"),
        ("nats://user:secret@broker:4222", "nats://[key]@broker:4222"),
        ("nats://token@broker:4222", "nats://[key]@broker:4222"),
        (
            "a task_runner at https://host/path and a@b.c",
            "a task_runner at https://host/path and a@b.c",
        ),
        ("half \ud83d a character", "half ? a character"),
    ],
)
def test_keys_are_masked_and_other_text_is_left_alone(text: str, expected: str) -> None:
    assert scrub(text) == expected


def test_what_varies_becomes_a_field() -> None:
    line = to_line(record("call started", call="CA1", ms=5, ok=True), "session", show_private=False)
    assert (line.message, line.level, line.service) == ("call started", "info", "session")
    assert line.fields == {"call": "CA1", "ms": 5, "ok": True}


def test_private_fields_are_masked_unless_asked_for() -> None:
    said = record("heard", private_text="my card number")
    assert to_line(said, "s", show_private=False).fields == {"private_text": "[private]"}
    assert to_line(said, "s", show_private=True).fields == {"private_text": "my card number"}


def test_keys_are_masked_everywhere_even_when_private_is_shown() -> None:
    try:
        raise ValueError("key sk-abcdefgh1234")
    except ValueError as error:
        failed = record("failed with %s", error, error=repr(error), nested={"k": "sk-abcdefgh1234"})
        failed.exc_info = (type(error), error, error.__traceback__)
    line = to_line(failed, "s", show_private=True)
    assert b"abcdefgh1234" not in line.encode()
    assert "exception" in line.fields


def test_a_long_value_is_cut() -> None:
    line = to_line(record("x" * 5000, text="y" * 5000), "s", show_private=False)
    assert len(line.message) == 2000
    assert len(line.fields["text"]) == 2000


def test_a_line_for_people_names_everything() -> None:
    text = to_text(to_line(record("call started", call="CA1"), "session", show_private=False))
    assert text.endswith("INFO    session   call started call=CA1")


def test_a_line_for_machines_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    Logs("session").handle(record("call started", call="CA1", broken="\ud83d"))
    (out,) = capsys.readouterr().out.splitlines()
    line = json.loads(out)
    assert line["message"] == "call started"
    assert line["call"] == "CA1"
    assert line["service"] == "session"


def test_a_field_cannot_forge_the_line_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    Logs("session").handle(record("call started", service="forged", text='a\n{"level": "error"}'))
    (out,) = capsys.readouterr().out.splitlines()
    assert json.loads(out)["service"] == "session"


def test_the_backlog_for_the_bus_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs("session")
    for number in range(LOG_BACKLOG_LINES + 10):
        logs.handle(record("line", number=number))
    capsys.readouterr()
    assert len(logs.backlog) == LOG_BACKLOG_LINES
    assert logs.backlog[0].fields == {"number": 10}
