"""Stories as they were and as they come: a replay that goes on live, with no gap and no repetition.

    async with Feed(client, call=call) as feed:
        async for told in feed:
            ...

It reads the stream `EVENTS` by a consumer of its own, so it needs no service.  Whatever is lost on
the way (a slow reader, a broken connection, a broker that restarts) is noticed by its number and
asked for again from the last line that was read.
"""

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from shared import subjects

#: JetStream says at least this often that it is alive; after three times nothing it is asked anew.
HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 3 * HEARTBEAT_S
#: JetStream forgets a reader that is gone for so long.
INACTIVE_S: Final = 30.0
#: Between two tries to open, while the broker is away.
RETRY_S: Final = 0.25
ASK_TIMEOUT_S: Final = 2.0

#: From the beginning, from what comes next, or from a time.
Start = Literal["all", "new"] | datetime.datetime

_FAULTS: Final = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)


class FeedUnavailableError(Exception):
    """The stream cannot be read: no JetStream, or no such stream yet."""


class _Gap(Exception):  # noqa: N818 - a fact: something was missed
    """What comes next is not what was asked for."""


class Reader:
    """Messages of a stream, in order.  Use as `async with Reader(...) as reader`."""

    def __init__(
        self,
        client: Client,
        stream: str,
        subject: str,
        *,
        start: Start = "all",
        newest_only: bool = False,
        headers_only: bool = False,
    ) -> None:
        """`newest_only` starts with the last message of each subject."""
        self._client = client
        self._js = client.jetstream(timeout=ASK_TIMEOUT_S)
        self._stream = stream
        self._subject = subject
        self._start = start
        self._newest_only = newest_only
        self._headers_only = headers_only
        self._subscription: Subscription | None = None
        self._consumer = ""
        #: Of the stream: read last; of the consumer: delivered last.
        self.sequence = 0
        self._delivered = 0
        #: How often the stream was found made anew: what was read before is not in it.
        self.remade = 0
        #: Set with the last message that was there when reading began (or at once, without one).
        self.caught_up = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except _FAULTS as error:
            await self._close()
            raise FeedUnavailableError(f"the stream {self._stream}: {error!r}") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._close()

    def __aiter__(self) -> AsyncIterator[Msg]:
        return self

    async def __anext__(self) -> Msg:
        """The next message; waits for ever."""
        while True:
            try:
                if self._subscription is None:
                    await self._open()
                    continue
                message = await self._next(self._subscription)
            except nats.errors.ConnectionClosedError:
                raise StopAsyncIteration from None
            except (_Gap, *_FAULTS):
                if self._client.is_closed:
                    raise StopAsyncIteration from None
                await self._close()
                await asyncio.sleep(RETRY_S)
            else:
                return message

    async def _next(self, subscription: Subscription) -> Msg:
        while True:
            message = await subscription.next_msg(timeout=SILENCE_S)
            headers = message.headers or {}
            if "Status" in headers:
                await self._status(message, headers)
                continue
            metadata = message.metadata
            if metadata.sequence.consumer != self._delivered + 1:
                raise _Gap
            self._delivered += 1
            self.sequence = metadata.sequence.stream
            if metadata.num_pending == 0:
                self.caught_up.set()
            return message

    async def _status(self, message: Msg, headers: dict[str, str]) -> None:
        """A heartbeat, or the question how far we are; everything before it was read."""
        if message.reply:
            await self._client.publish(message.reply)
        if "Nats-Consumer-Stalled" in headers:
            await self._client.publish(headers["Nats-Consumer-Stalled"])
        if int(headers.get("Nats-Last-Consumer", self._delivered)) > self._delivered:
            raise _Gap

    async def _open(self) -> None:
        state = (await self._js.stream_info(self._stream)).state
        if self._start == "new" and not self.sequence:
            self.sequence = state.last_seq  # from here on, also when this very try fails
            self._start = "all"
        if self.sequence > state.last_seq:
            self.sequence = 0
            self.remade += 1
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox)
        self._delivered = 0
        info = await self._js.add_consumer(self._stream, self._config(inbox))
        self._consumer = info.name
        if not info.num_pending and not (info.delivered and info.delivered.consumer_seq):
            self.caught_up.set()

    def _config(self, inbox: str) -> ConsumerConfig:
        config = ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.NONE,
            filter_subject=self._subject,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=INACTIVE_S,
            headers_only=self._headers_only or None,
            mem_storage=True,
            num_replicas=1,
        )
        if self.sequence:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self.sequence + 1
        elif isinstance(self._start, datetime.datetime):
            config.deliver_policy = DeliverPolicy.BY_START_TIME
            config.opt_start_time = self._start
        elif self._newest_only:
            config.deliver_policy = DeliverPolicy.LAST_PER_SUBJECT
        return config

    async def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        consumer, self._consumer = self._consumer, ""
        with contextlib.suppress(*_FAULTS):
            if subscription is not None:
                await subscription.unsubscribe()
            if consumer and self._client.is_connected:
                await self._js.delete_consumer(self._stream, consumer)


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a story.  `sequence` counts the lines of all stories."""

    sequence: int
    call: str
    name: str
    fields: dict[str, Any]


class Feed:
    """The story of `call`, or of all calls.  Use as `async with Feed(...) as feed`."""

    def __init__(self, client: Client, *, call: str | None = None, start: Start = "all") -> None:
        """`client` stays the caller's.  Raises `UnsafeTokenError` when `call` is no call id."""
        subject = subjects.all_events(call) if call is not None else subjects.ALL_EVENTS
        self._reader = Reader(client, subjects.EVENTS_STREAM, subject, start=start)

    @property
    def caught_up(self) -> asyncio.Event:
        """Set with the last line that was there when reading began: the rest comes live."""
        return self._reader.caught_up

    async def __aenter__(self) -> Self:
        """Raises `FeedUnavailableError`."""
        await self._reader.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._reader.__aexit__(kind, error, at)

    def __aiter__(self) -> AsyncIterator[Told]:
        return self

    async def __anext__(self) -> Told:
        """The next line that can be read; ends when the connection is closed for good."""
        while True:
            message = await anext(self._reader)
            _, call, _, name = message.subject.split(".", 3)
            with contextlib.suppress(ValueError, RecursionError):
                fields = json.loads(message.data)
                if isinstance(fields, dict):
                    return Told(self._reader.sequence, call, name, fields)
