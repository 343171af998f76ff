"""Stories become records on a real broker, whatever dies on the way."""

import asyncio

import pytest
from nats.aio.msg import Msg

from services.logs.answers import Answers
from services.logs.kept import Kept
from services.logs.records import ConflictError, Records
from services.logs.telling import story, summary
from shared import subjects
from shared.bus import Bus
from shared.messages import CallStory
from tests.broker import Broker
from tests.helpers import eventually
from tests.unit.logs.conftest import SettingsOf, connected, keeping, publish, record
from tests.unit.logs.stories import CALL, ended, line, offered, whole
from tests.unit.logs.test_recorder import fold

pytestmark = pytest.mark.e2e

WANTED = story(fold(whole()).kept)


async def nothing_waits(bus: Bus) -> bool:
    info = await bus.js.consumer_info(subjects.EVENTS_STREAM, subjects.RECORDS_CONSUMER)
    return not info.num_pending and not info.num_ack_pending


async def test_a_story_becomes_a_record(line_in: Bus, settings_of: SettingsOf) -> None:
    settings = settings_of()
    async with keeping(line_in, settings):
        await publish(line_in, CALL, whole())
        await eventually(lambda: nothing_waits(line_in))
        assert await record(line_in, settings, CALL) == WANTED


async def test_lines_told_before_the_service_ran_are_kept(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of()
    await publish(line_in, CALL, whole())
    async with keeping(line_in, settings):
        await eventually(lambda: nothing_waits(line_in))
        assert await record(line_in, settings, CALL) == WANTED


async def test_writes_of_a_live_call_are_collected_and_the_end_is_written_at_once(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of(record_write_ms=5000)
    async with keeping(line_in, settings):
        await publish(line_in, CALL, [offered()])
        await eventually(lambda: nothing_waits(line_in))  # the first line waits for nothing
        lines = [line("key_pressed", number, digit="5") for number in range(1, 40)]
        await publish(line_in, CALL, [*lines, ended(5000)])
        await eventually(lambda: nothing_waits(line_in), 3)
    found = await Records(line_in, settings).read(CALL)
    assert found is not None
    assert found[0] == 2, "two writes"
    assert story(Kept.model_validate_json(found[1])).events == 41


async def test_an_instance_that_is_stopped_writes_what_it_has(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of(record_write_ms=5000)
    async with keeping(line_in, settings):
        await publish(line_in, CALL, [offered()])
        await eventually(lambda: nothing_waits(line_in))
        await publish(line_in, CALL, whole()[1:10])
        await eventually(lambda: _delivered(line_in, 10))
    assert await nothing_waits(line_in)
    kept = await record(line_in, settings, CALL)
    assert kept is not None
    assert kept.events == 10


async def _delivered(bus: Bus, number: int) -> bool:
    info = await bus.js.consumer_info(subjects.EVENTS_STREAM, subjects.RECORDS_CONSUMER)
    return info.delivered is not None and info.delivered.consumer_seq == number


async def test_a_restart_in_the_middle_of_a_story_loses_and_repeats_nothing(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of()
    half = len(whole()) // 2
    for part in (whole()[:half], whole()[half:]):
        async with connected(settings) as bus, keeping(bus, settings):
            await publish(line_in, CALL, part)
            await eventually(lambda: nothing_waits(line_in))
    assert await record(line_in, settings, CALL) == WANTED


async def test_a_kill_between_write_and_acknowledgement_changes_nothing(
    line_in: Bus, settings_of: SettingsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first instance writes and never acknowledges: every line comes to the second one."""
    settings = settings_of()
    with monkeypatch.context() as dead:
        dead.setattr(Msg, "ack", _no_ack)
        async with connected(settings) as bus, keeping(bus, settings, ack_wait_s=0.5):
            await publish(line_in, CALL, whole())
            await eventually(lambda: _is(line_in, settings_of, WANTED))
            assert not await nothing_waits(line_in)
    async with connected(settings) as bus, keeping(bus, settings, ack_wait_s=0.5):
        await eventually(lambda: nothing_waits(line_in))
    assert await record(line_in, settings, CALL) == WANTED


async def _no_ack(_message: Msg) -> None:
    """As if the process were gone."""


async def _is(bus: Bus, settings_of: SettingsOf, wanted: CallStory) -> bool:
    return await record(bus, settings_of(), CALL) == wanted


async def test_two_instances_share_the_lines_of_one_call(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of(record_write_ms=0)
    async with (
        connected(settings, "one") as one,
        connected(settings, "two") as two,
        keeping(one, settings),
        keeping(two, settings),
    ):
        await publish(line_in, CALL, whole())
        await eventually(lambda: nothing_waits(line_in))
        assert await record(line_in, settings, CALL) == WANTED


async def test_a_record_is_written_over_the_revision_that_was_read_only(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    records = Records(line_in, settings_of())
    await records.provision()
    kept = fold(whole()).kept
    first = await records.write(CALL, b"one", summary(kept), 0)
    for stale in (0, first + 5):
        with pytest.raises(ConflictError):
            await records.write(CALL, b"two", summary(kept), stale)
    await records.write(CALL, b"two", summary(kept), first)
    found = await records.read(CALL)
    assert found is not None
    assert found[1] == b"two"


async def test_the_broker_restarts_in_the_middle_of_a_story(
    own_broker: Broker, settings_of: SettingsOf
) -> None:
    settings = settings_of()
    half = len(whole()) // 2
    async with connected(settings) as bus, keeping(bus, settings):
        await publish(bus, CALL, whole()[:half])
        await eventually(lambda: nothing_waits(bus))
        await asyncio.to_thread(own_broker.stop)
        await asyncio.to_thread(own_broker.start)
        await eventually(lambda: bus.connected)
        await publish(bus, CALL, whole()[half:])
        await eventually(lambda: nothing_waits(bus), 20)
        assert await record(bus, settings, CALL) == WANTED


async def test_a_lost_consumer_is_made_anew_and_the_story_read_again(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of()
    async with keeping(line_in, settings) as keeper:
        await publish(line_in, CALL, whole())
        await eventually(lambda: nothing_waits(line_in))
        await line_in.js.delete_consumer(subjects.EVENTS_STREAM, subjects.RECORDS_CONSUMER)
        await keeper.look()
        await eventually(lambda: nothing_waits(line_in))
        assert await record(line_in, settings, CALL) == WANTED


async def test_retention_takes_the_oldest_records(line_in: Bus, settings_of: SettingsOf) -> None:
    settings = settings_of(records_max_bytes=1024 * 1024)
    records = Records(line_in, settings)
    await records.provision()
    answers = Answers(line_in, records)
    await answers.start()
    try:
        told = summary(fold(whole()).kept)
        calls = [f"CA{number:032x}" for number in range(8)]
        for call in calls:
            body = b"x" * 200_000
            await records.write(call, body, told.model_copy(update={"call": call}), 0)
        await eventually(lambda: len(answers.index) == 8)
        await answers.look()
        left = [call for call in calls if await records.read(call) is not None]
        assert 0 < len(left) < 8
        assert left == calls[-len(left) :]
        assert len(answers.index) == len(left)
    finally:
        await answers.stop()


async def test_records_live_as_long_as_the_settings_say(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of(records_max_age_h=1 / 3600)
    records = Records(line_in, settings)
    await records.provision()
    await records.write(CALL, b"x", summary(fold(whole()).kept), 0)
    await eventually(lambda: _gone(records))


async def _gone(records: Records) -> bool:
    return await records.read(CALL) is None


async def test_what_is_no_line_of_a_story_is_counted_and_left(
    line_in: Bus, settings_of: SettingsOf
) -> None:
    settings = settings_of()
    async with keeping(line_in, settings):
        await line_in.js.publish("call.nobody.event.started", b"{}")
        await line_in.js.publish(f"call.{CALL}.event.started", b"not JSON")
        await line_in.js.publish(f"call.{CALL}.event.more.than.one", b"{}")
        await eventually(lambda: nothing_waits(line_in))
        assert await record(line_in, settings, CALL) is None
        await publish(line_in, CALL, [offered()])
        await eventually(lambda: nothing_waits(line_in))
        assert await record(line_in, settings, CALL) is not None
