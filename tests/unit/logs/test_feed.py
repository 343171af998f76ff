"""The live feed: first what was, then what comes, each line once and in order."""

import asyncio
import datetime

import pytest

from shared import subjects
from shared.bus import Bus
from shared.feed import Feed, FeedUnavailableError, Reader, Told
from shared.subjects import UnsafeTokenError
from tests.broker import Broker
from tests.helpers import eventually
from tests.unit.logs.conftest import SettingsOf, connected, publish
from tests.unit.logs.stories import CALL, line, whole

pytestmark = pytest.mark.e2e

OTHER = "CA" + "f" * 32


async def take(feed: Feed, number: int) -> list[Told]:
    async with asyncio.timeout(20):
        return [await anext(feed) for _ in range(number)]


def digits(first: int, last: int, call: str = CALL) -> list[tuple[str, bytes]]:
    return [line("key_pressed", ms, call=call, digit="5") for ms in range(first, last)]


async def test_a_story_is_replayed_and_goes_on_live(line_in: Bus) -> None:
    await publish(line_in, CALL, whole()[:5])
    await publish(line_in, OTHER, digits(0, 3, OTHER))
    async with Feed(line_in.client, call=CALL) as feed:
        was = await take(feed, 5)
        assert [one.name for one in was] == [name for name, _ in whole()[:5]]
        assert feed.caught_up.is_set()
        await publish(line_in, CALL, whole()[5:])
        comes = await take(feed, len(whole()) - 5)
    assert [one.name for one in (*was, *comes)] == [name for name, _ in whole()]
    assert {one.call for one in comes} == {CALL}


async def test_no_gap_and_no_repetition_while_lines_keep_coming(line_in: Bus) -> None:
    await publish(line_in, CALL, digits(0, 200))
    telling = asyncio.create_task(publish(line_in, CALL, digits(200, 900)))
    async with Feed(line_in.client) as feed:
        told = await take(feed, 900)
    await telling
    assert [one.fields["ms"] for one in told] == list(range(900))
    assert [one.sequence for one in told] == sorted({one.sequence for one in told})


async def test_only_what_comes_is_told_if_that_is_asked_for(line_in: Bus) -> None:
    await publish(line_in, CALL, digits(0, 5))
    async with Feed(line_in.client, start="new") as feed:
        assert feed.caught_up.is_set()
        await publish(line_in, CALL, digits(5, 7))
        assert [one.fields["ms"] for one in await take(feed, 2)] == [5, 6]


async def test_what_came_since_a_time_is_told(line_in: Bus) -> None:
    await publish(line_in, CALL, digits(0, 5))
    state = await line_in.js.get_last_msg(subjects.EVENTS_STREAM, subjects.all_events(CALL))
    assert state.seq == 5
    since = datetime.datetime.now(datetime.UTC)
    await publish(line_in, CALL, digits(5, 7))
    async with Feed(line_in.client, start=since) as feed:
        assert [one.fields["ms"] for one in await take(feed, 2)] == [5, 6]


async def test_lines_that_got_lost_on_the_way_are_asked_for_again(
    line_in: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(line_in, CALL, digits(0, 50))
    async with Feed(line_in.client, call=CALL) as feed:
        told = await take(feed, 10)
        # As if the client's own buffer had been full for a while.
        subscription = feed._reader._subscription
        assert subscription is not None
        await eventually(lambda: subscription.pending_msgs >= 40)
        for _ in range(5):
            await subscription.next_msg(timeout=5)
        told += await take(feed, 40)
        # The last of all: only a heartbeat tells.
        await publish(line_in, CALL, digits(50, 51))
        again = feed._reader._subscription
        assert again is not None
        await eventually(lambda: again.pending_msgs)
        await again.next_msg(timeout=5)
        told += await take(feed, 1)
    assert [one.fields["ms"] for one in told] == list(range(51))


async def test_the_broker_restarts_while_a_feed_is_read(
    own_broker: Broker, settings_of: SettingsOf
) -> None:
    async with connected(settings_of()) as bus:
        await publish(bus, CALL, digits(0, 10))
        async with Feed(bus.client, call=CALL) as feed:
            told = await take(feed, 10)
            await asyncio.to_thread(own_broker.stop)
            await asyncio.to_thread(own_broker.start)
            await eventually(lambda: bus.connected)
            await publish(bus, CALL, digits(10, 20))
            told += await take(feed, 10)
    assert [one.fields["ms"] for one in told] == list(range(20))


async def test_a_feed_leaves_nothing_behind(line_in: Bus) -> None:
    before = line_in.subscriptions
    async with Feed(line_in.client):
        assert len(await line_in.js.consumers_info(subjects.EVENTS_STREAM)) == 1
    assert await line_in.js.consumers_info(subjects.EVENTS_STREAM) == []
    assert line_in.subscriptions <= before + 1  # nats-py's own, for answers


async def test_a_feed_ends_when_its_connection_is_closed(settings_of: SettingsOf) -> None:
    async with connected(settings_of()) as bus, Feed(bus.client) as feed:
        waiting = asyncio.ensure_future(anext(feed))
        await bus.client.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_a_stream_that_is_not_there_is_said_at_once(line_in: Bus) -> None:
    reader = Reader(line_in.client, "NOBODYS", "nobody.>")
    with pytest.raises(FeedUnavailableError, match="NOBODYS"):
        await reader.__aenter__()


async def test_no_feed_is_made_of_what_is_no_call(line_in: Bus) -> None:
    with pytest.raises(UnsafeTokenError):
        Feed(line_in.client, call="*")
