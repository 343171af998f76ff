"""Requests about calls on a real broker: filters, pages, and every kind of mistake."""

import datetime
import json
from collections.abc import AsyncIterator

import pytest

from services.logs.answers import Answers
from services.logs.index import BadCursorError, decode_cursor
from services.logs.recorder import Recorder
from services.logs.records import PREFIX, STREAM, Records
from services.logs.settings import LogsSettings
from services.logs.telling import summary
from shared import subjects
from shared.bus import Bus
from shared.messages import (
    CallExported,
    CallPage,
    CallStory,
    CallSummary,
    CallTold,
    ExportCall,
    GetCall,
    ListCalls,
    LogsRefused,
)
from tests.helpers import eventually
from tests.unit.logs.conftest import SettingsOf, answering, ask
from tests.unit.logs.stories import CALL, Line, ended, line, offered, whole
from tests.unit.logs.test_recorder import LIMIT_BYTES

pytestmark = pytest.mark.e2e

NOW = datetime.datetime.now(datetime.UTC)


def name_of(number: int) -> str:
    return f"CA{number:032x}"


def lines_of(number: int) -> list[Line]:
    """Call `number`: one an hour ago, the next ones later; every third has ended."""
    call = name_of(number)
    at = (NOW - datetime.timedelta(hours=1) + datetime.timedelta(minutes=number)).isoformat()
    lines = [
        offered(call=call, at=at, agent=f"agent-{number % 2}", caller=f"+1555000{number:04d}"),
        line("started", 900, call=call, at=at, leg=1, gateway="gw-1"),
        line(
            *("transcript", 1000),
            call=call,
            at=at,
            who="caller",
            text=f"My order is {number * 111}",
            item="item_1",
        ),
    ]
    return [*lines, ended(2000, call, at=at)] if number % 3 == 0 else lines


async def put(records: Records, call: str, lines: list[Line]) -> None:
    recorder = Recorder(call)
    for name, payload in lines:
        assert recorder.add(name, payload) == "folded"
    kept = recorder.kept
    await records.write(call, recorder.encode(LIMIT_BYTES), summary(kept), 0)


@pytest.fixture
def settings(settings_of: SettingsOf) -> LogsSettings:
    return settings_of()


@pytest.fixture
async def answers(line_in: Bus, settings: LogsSettings) -> AsyncIterator[Answers]:
    """With twelve calls."""
    async with answering(line_in, settings) as answers:
        records = Records(line_in, settings)
        for number in range(12):
            await put(records, name_of(number), lines_of(number))
        await eventually(lambda: len(answers.index) == 12)
        yield answers


async def listed(bus: Bus, **filters: object) -> list[int]:
    page = await ask(bus, subjects.LOGS_LIST, ListCalls.model_validate(filters))
    assert isinstance(page, CallPage)
    return [int(one.call[2:], 16) for one in page.calls]


@pytest.mark.usefixtures("answers")
async def test_calls_are_listed_newest_first_and_filtered(line_in: Bus) -> None:
    assert await listed(line_in) == list(range(11, -1, -1))
    assert await listed(line_in, state="ended") == [9, 6, 3, 0]
    assert await listed(line_in, state="live", agent="agent-1") == [11, 7, 5, 1]
    assert await listed(line_in, caller="0007") == [7]
    assert await listed(line_in, text="MY ORDER IS 777") == [7]
    assert await listed(line_in, text="unheard of") == []
    begin = NOW - datetime.timedelta(hours=1)
    since = (begin + datetime.timedelta(minutes=3)).isoformat()
    until = (begin + datetime.timedelta(minutes=6)).isoformat()
    assert await listed(line_in, since=since, until=until) == [5, 4, 3]
    assert await listed(line_in, since=since, until=until, state="ended", text="order") == [3]


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("text", ["", "order"])
async def test_pages_follow_each_other_without_gap_or_repetition(line_in: Bus, text: str) -> None:
    found: list[str] = []
    cursor = ""
    while True:
        page = await ask(line_in, subjects.LOGS_LIST, ListCalls(limit=5, text=text, cursor=cursor))
        assert len(page.calls) <= 5
        found += [one.call for one in page.calls]
        cursor = page.cursor
        if not cursor:
            break
    assert found == [name_of(number) for number in range(11, -1, -1)]


@pytest.mark.usefixtures("answers")
async def test_a_call_that_comes_between_two_pages_moves_nothing(
    line_in: Bus, settings: LogsSettings, answers: Answers
) -> None:
    first = await ask(line_in, subjects.LOGS_LIST, ListCalls(limit=5))
    await put(Records(line_in, settings), name_of(50), lines_of(50))
    await eventually(lambda: len(answers.index) == 13)
    second = await ask(line_in, subjects.LOGS_LIST, ListCalls(limit=5, cursor=first.cursor))
    assert [one.call for one in second.calls] == [name_of(number) for number in range(6, 1, -1)]


async def test_one_call_is_told_whole_and_exported(
    line_in: Bus, settings: LogsSettings, answers: Answers
) -> None:
    await put(Records(line_in, settings), CALL, whole())
    told = await ask(line_in, subjects.LOGS_CALL, GetCall(call=CALL))
    assert isinstance(told, CallTold)
    assert len(told.story.transcript) == 5
    as_json = await ask(line_in, subjects.LOGS_EXPORT, ExportCall(call=CALL))
    assert isinstance(as_json, CallExported)
    assert CallStory.model_validate_json(as_json.text) == told.story
    as_text = await ask(line_in, subjects.LOGS_EXPORT, ExportCall(call=CALL, form="text"))
    assert "How is the weather in Oslo?" in as_text.text
    await eventually(lambda: len(answers.index) == 13)


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize(
    ("subject", "body", "code", "names"),
    [
        (subjects.LOGS_CALL, {"call": name_of(999)}, "unknown_call", name_of(999)),
        (subjects.LOGS_EXPORT, {"call": name_of(999)}, "unknown_call", name_of(999)),
        (subjects.LOGS_CALL, {}, "invalid", "call"),
        (subjects.LOGS_CALL, {"call": "CA*"}, "invalid", "call"),
        (subjects.LOGS_EXPORT, {"call": CALL, "form": "pdf"}, "invalid", "form"),
        (subjects.LOGS_LIST, {"limit": 201}, "invalid", "limit"),
        (subjects.LOGS_LIST, {"limit": 0}, "invalid", "limit"),
        (subjects.LOGS_LIST, {"since": "2026-11-22T10:00:00"}, "invalid", "since"),
        (subjects.LOGS_LIST, {"cursor": "elsewhere"}, "invalid", "cursor"),
        (subjects.LOGS_LIST, {"text": "x" * 300}, "invalid", "text"),
        (subjects.LOGS_LIST, [1], "invalid", "body"),
    ],
)
async def test_a_request_that_cannot_be_met_says_why(
    line_in: Bus, subject: str, body: object, code: str, names: str
) -> None:
    answer = await ask(line_in, subject, json.dumps(body).encode())
    assert isinstance(answer, LogsRefused)
    assert answer.code == code
    assert names in answer.message
    assert "xxx" not in answer.message, "what was asked for may be private"


@pytest.mark.usefixtures("answers")
async def test_no_body_asks_for_the_newest(line_in: Bus) -> None:
    assert len((await ask(line_in, subjects.LOGS_LIST, b"")).calls) == 12
    assert isinstance(await ask(line_in, subjects.LOGS_LIST, b"\xff"), LogsRefused)


async def test_an_instance_that_starts_later_knows_all_calls(
    line_in: Bus, settings: LogsSettings, answers: Answers
) -> None:
    await line_in.js.publish(f"{PREFIX}{name_of(3)}", b"", headers={"KV-Operation": "PURGE"})
    await eventually(lambda: len(answers.index) == 11)
    async with answering(line_in, settings) as second:
        assert len(second.index) == 11
    assert 3 not in await listed(line_in)


async def test_a_record_that_no_version_of_ours_wrote_is_unknown(
    line_in: Bus, settings: LogsSettings, answers: Answers
) -> None:
    told = CallSummary(call=CALL, state="live", offered_at=NOW, updated_at=NOW)
    await Records(line_in, settings).write(CALL, b"garbage", told, 0)
    answer = await ask(line_in, subjects.LOGS_CALL, GetCall(call=CALL))
    assert answer.code == "unknown_call"
    assert len(answers.index) >= 12


async def test_a_broker_that_lost_its_records_has_none_in_the_list(
    line_in: Bus, settings: LogsSettings, answers: Answers
) -> None:
    records = Records(line_in, settings)
    await line_in.js.delete_stream(STREAM)
    await records.provision()
    await put(records, name_of(20), lines_of(20))
    await eventually(lambda: len(answers.index) == 1, 20)
    assert await listed(line_in) == [20]


@pytest.mark.parametrize("cursor", ["", "x", "8J+YgA", "MjAyNi0xMS0yMlQxMDowMDowMCBDQQ"])
def test_a_cursor_of_somebody_else_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursorError):
        decode_cursor(cursor)
