"""The NATS connection of a service: audio, control, requests, key-value buckets, the story.

Audio and control go through `Bus.send`, which collects what all calls of this process send and
writes it once per tick.  Measured: nothing else comes near it, because the price of a frame is
system calls and wake-ups, in this process and in nats-server.  Control may flush the tick at once;
both go through the same queue, so they keep their order.
"""

import asyncio
import collections
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType, StreamConfig
from nats.js.kv import KeyValue

from shared import subjects
from shared.logs import Logs
from shared.messages import Event, Message
from shared.settings import ServiceSettings

log = logging.getLogger(__name__)

#: Collecting for 2 ms halves the cost of a frame against a write per message and adds 2 ms on
#: average to a round trip: nothing in a conversation of 800 ms turns.
TICK_S: Final = 0.002
#: What one tick may hold.  100 calls send 50 kB a tick at most; beyond this the server is stuck.
TICK_LIMIT_BYTES: Final = 8 * 1024 * 1024
#: Control messages wait here during a reconnect (nats-py's own buffer); audio is dropped instead.
PENDING_LIMIT_BYTES: Final = 2 * 1024 * 1024
#: 20 s of 20 ms frames of one call: a reader that is later than this has stopped.
SUBSCRIPTION_LIMIT_MESSAGES: Final = 1000
SUBSCRIPTION_LIMIT_BYTES: Final = 4 * 1024 * 1024
#: Story lines waiting for JetStream.  A call writes about one a second: an hour's outage of three
#: calls, or a minute's of two hundred.  The oldest are dropped and counted.
STORY_BACKLOG: Final = 10_000
STORY_TRIES: Final = 5
STORY_TIMEOUT_S: Final = 2.0
#: How long `close` waits for the last story and log lines.
CLOSE_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5.0
#: A stream token lives minutes; its used-up mark may go after this.
TOKENS_TTL_S: Final = 3600
#: An agent's settings with the longest instructions; a call's record holds a copy.
RECORD_LIMIT_BYTES: Final = 512 * 1024


class NoResponderError(Exception):
    """Nobody listens to the subject: for `calls.offer`, no worker has room."""


class NoAnswerError(Exception):
    """Somebody listens, but no answer came in time."""


class Bus:
    """One connection, shared by all calls of a process.  Build it with `connect`."""

    def __init__(self, client: Client, service: str, *, logs: Logs | None = None) -> None:
        self.client = client
        self.service = service
        self.js: JetStreamContext = client.jetstream(timeout=STORY_TIMEOUT_S)
        #: Messages and bytes not sent because the connection was down or a limit was reached.
        self.dropped_audio_bytes = 0
        self.dropped_story_lines = 0
        #: Messages that a subscription of ours was too slow for.
        self.slow_messages = 0
        self._logs = logs
        self._batch: list[tuple[str, bytes]] = []
        self._batch_bytes = 0
        self._tick: asyncio.Handle | None = None
        self._last_tick = 0.0
        self._flushing: asyncio.Task[None] | None = None
        self._story: collections.deque[tuple[str, bytes, str]] = collections.deque()
        self._story_wake = asyncio.Event()
        self._story_count = 0
        self._told = asyncio.Event()
        self._told.set()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def connect(
        cls, settings: ServiceSettings, service: str, *, name: str, logs: Logs | None = None
    ) -> "Bus":
        """Connect and keep reconnecting for ever.

        Raises `ConnectionError` when no server answers within `CONNECT_TIMEOUT_S`.
        """
        bus: Bus | None = None

        async def on_error(error: Exception) -> None:
            if isinstance(error, nats.errors.SlowConsumerError):
                if bus is not None:
                    bus.slow_messages += 1
                return  # counted: one line per lost frame would make it worse
            log.warning("NATS reported an error", extra={"error": repr(error)})

        async def on_disconnect() -> None:
            log.warning("NATS is disconnected")

        async def on_reconnect() -> None:
            log.info("NATS is connected again")

        client = Client()
        password = settings.nats_password
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(
                    servers=settings.nats_url.split(","),
                    name=name,
                    user=settings.nats_user,
                    password=password.get_secret_value() if password else None,
                    max_reconnect_attempts=-1,
                    # The annotation says int, the code sleeps for it.
                    reconnect_time_wait=0.25,  # type: ignore[arg-type]
                    ping_interval=10,
                    max_outstanding_pings=2,
                    pending_size=PENDING_LIMIT_BYTES,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                    # Subjects are checked once, where they are made (shared/subjects.py).
                    skip_subject_validation=True,
                )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            with contextlib.suppress(Exception):
                await client.close()
            raise ConnectionError(
                f"NATS does not answer at {settings.nats_url} ({error!r}): "
                "start it, or set NATS_URL"
            ) from error
        bus = cls(client, service, logs=logs)
        bus._tasks.append(asyncio.create_task(bus._tell_story(), name="story"))
        if logs is not None:
            bus._tasks.append(asyncio.create_task(bus._publish_logs(logs), name="logs"))
        return bus

    @property
    def connected(self) -> bool:
        """Whether the server can be reached just now."""
        return bool(self.client.is_connected)

    @property
    def subscriptions(self) -> int:
        """Live subscriptions of this connection; a leak shows here."""
        return len(self.client._subs)  # no public counter in nats-py

    # --- audio and control ------------------------------------------------------------------

    def send_audio(self, subject: str, audio: bytes) -> bool:
        """Send with the next tick.  False: dropped and counted, the connection is down or stuck."""
        if not self.client.is_connected or self._batch_bytes > TICK_LIMIT_BYTES:
            self.dropped_audio_bytes += len(audio)
            return False
        self._batch.append((subject, audio))
        self._batch_bytes += len(audio)
        if self._tick is None:
            self._tick = self._next_tick()
        return True

    def _next_tick(self) -> asyncio.Handle:
        """A tick after the last one; at once when that is over already (few calls, no wait)."""
        loop = asyncio.get_running_loop()
        due = self._last_tick + TICK_S
        if due <= loop.time():
            return loop.call_soon(self._flush)
        return loop.call_at(due, self._flush)

    def send_control(self, subject: str, message: Message, *, urgent: bool = False) -> None:
        """Send behind the audio sent before it.  `urgent` does not wait for the tick."""
        self._batch.append((subject, message.encode()))
        if urgent and self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._tick is None:
            loop = asyncio.get_running_loop()
            self._tick = loop.call_soon(self._flush) if urgent else self._next_tick()

    def _flush(self) -> None:
        self._tick = None
        self._last_tick = asyncio.get_running_loop().time()
        if self._flushing is None and self._batch:
            self._flushing = asyncio.create_task(self._write())
            self._flushing.add_done_callback(self._written)

    async def _write(self) -> None:
        while self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            publish = self.client.publish
            for subject, payload in batch:
                try:
                    await publish(subject, payload)
                except nats.errors.Error:
                    # Down for so long that nats-py's buffer is full, or closing.
                    self.dropped_audio_bytes += len(payload)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._flushing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("writing to NATS failed", extra={"error": repr(error)})
        if self._batch and self._tick is None:
            self._flush()

    # --- requests and subscriptions ---------------------------------------------------------

    async def request(self, subject: str, message: Message, *, timeout_s: float) -> bytes:
        """The answer's bytes.

        Raises `NoResponderError` at once, `NoAnswerError` after `timeout_s`.
        """
        return (await self.request_message(subject, message, timeout_s=timeout_s)).data

    async def request_message(self, subject: str, message: Message, *, timeout_s: float) -> Msg:
        """As `request`, with the answer's headers."""
        try:
            return await self.client.request(subject, message.encode(), timeout=timeout_s)
        except nats.errors.NoRespondersError as error:
            raise NoResponderError(subject) from error
        except (TimeoutError, nats.errors.Error) as error:
            raise NoAnswerError(f"{subject}: {error!r}") from error

    async def subscribe(
        self, subject: str, handle: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Call `handle` for each message, one at a time, in order; bounded."""
        return await self.client.subscribe(
            subject,
            queue=queue,
            cb=handle,
            pending_msgs_limit=SUBSCRIPTION_LIMIT_MESSAGES,
            pending_bytes_limit=SUBSCRIPTION_LIMIT_BYTES,
        )

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End interest; harmless when the connection is gone already."""
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()

    async def drain(self, subscription: Subscription) -> None:
        """End interest at once, and handle what was already delivered."""
        with contextlib.suppress(nats.errors.Error):
            await subscription.drain()  # type: ignore[no-untyped-call]

    async def flush(self) -> None:
        """Wait until the server has processed everything sent so far (two round trips)."""
        if self._flushing is not None:
            await asyncio.shield(self._flushing)
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            # nats-py writes its PING at once, ahead of commands that still wait for its flusher:
            # the first round trip lets those out, the second is behind them.
            await self.client.flush(timeout=2)
            await self.client.flush(timeout=2)

    # --- the story --------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Add a line to the call's story: kept in order, published with acknowledgement."""
        if len(self._story) >= STORY_BACKLOG:
            self._story.popleft()
            self.dropped_story_lines += 1
        self._story_count += 1
        # JetStream drops a second message with the same id, so a retry cannot tell a line twice.
        identity = f"{event.call}-{event.epoch}-{self._story_count}"
        self._story.append((subjects.event(event.call, event.NAME), event.encode(), identity))
        self._told.clear()
        self._story_wake.set()

    async def _tell_story(self) -> None:
        while True:
            await self._story_wake.wait()
            self._story_wake.clear()
            while self._story:
                subject, payload, identity = self._story[0]
                if not await self._tell_one(subject, payload, identity):
                    self.dropped_story_lines += 1
                if self._story and self._story[0][2] == identity:
                    self._story.popleft()
            self._told.set()

    async def _tell_one(self, subject: str, payload: bytes, identity: str) -> bool:
        for attempt in range(STORY_TRIES):
            try:
                await self.js.publish(subject, payload, headers={"Nats-Msg-Id": identity})
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                if attempt == STORY_TRIES - 1:
                    log.warning("a story line was lost", extra={"error": repr(error)})
                else:
                    await asyncio.sleep(0.2 * 2**attempt)
            else:
                return True
        return False

    async def _publish_logs(self, logs: Logs) -> None:
        while True:
            await asyncio.sleep(0.2)  # a person reads them: a fifth of a second is at once
            await self._drain_logs(logs)

    async def _drain_logs(self, logs: Logs) -> None:
        while logs.backlog and self.client.is_connected:
            line = logs.backlog.popleft()
            with contextlib.suppress(nats.errors.Error):
                await self.client.publish(subjects.log(line.service, line.level), line.encode())

    # --- end --------------------------------------------------------------------------------

    async def close(self) -> None:
        """Send what is waiting (bounded by `CLOSE_TIMEOUT_S`), then disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._told.wait()
                if self._logs is not None:
                    await self._drain_logs(self._logs)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tick is not None:
            self._tick.cancel()
            self._flush()
        if self._flushing is not None:
            await asyncio.wait([self._flushing], timeout=CLOSE_TIMEOUT_S)
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await self.client.flush(timeout=1)
        # In an outage nats-py writes what is pending into the broken socket, and says so; asyncio
        # of Python 3.12 and later then raises a TypeError of its own.
        with contextlib.suppress(nats.errors.Error, OSError, TypeError, RuntimeError):
            await self.client.close()


# --- JetStream -----------------------------------------------------------------------------------


async def provision(bus: Bus, settings: ServiceSettings) -> None:
    """Make the stream and the buckets, or bring their limits up to the settings.

    Every service calls it on start: whoever is first makes them.  Raises `ConnectionError` with the
    remedy when JetStream is off or full.
    """
    try:
        await _stream(
            bus.js,
            StreamConfig(
                name=subjects.EVENTS_STREAM,
                description="the story of every call",
                subjects=[subjects.ALL_EVENTS],
                storage=StorageType.FILE,
                max_age=settings.events_max_age_h * 3600,
                max_bytes=settings.events_max_bytes,
                num_replicas=settings.js_replicas,
            ),
        )
        await _bucket(bus.js, settings, subjects.AGENTS_BUCKET, history=8)
        await _bucket(
            bus.js, settings, subjects.CALLS_BUCKET, history=1, ttl_s=settings.calls_ttl_h * 3600
        )
        await _bucket(bus.js, settings, subjects.TOKENS_BUCKET, history=1, ttl_s=TOKENS_TTL_S)
    except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
        raise ConnectionError(
            f"JetStream is not usable ({error!r}): start nats-server with -js and enough disk, "
            "or lower EVENTS_MAX_BYTES"
        ) from error


async def _stream(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except nats.js.errors.BadRequestError:
        # It exists with other limits: the settings win.
        await js.update_stream(config)


async def _bucket(
    js: JetStreamContext,
    settings: ServiceSettings,
    name: str,
    *,
    history: int,
    ttl_s: float | None = None,
) -> None:
    config = KeyValueConfig(
        bucket=name,
        history=history,
        ttl=ttl_s,
        max_value_size=RECORD_LIMIT_BYTES,
        replicas=settings.js_replicas,
    )
    try:
        await js.create_key_value(config)
    except nats.js.errors.BadRequestError:
        await js.key_value(name)  # another version made it with other limits: use it as it is


async def bucket(bus: Bus, name: str) -> KeyValue:
    """The key-value bucket `name`, made by `provision`."""
    return await bus.js.key_value(name)
