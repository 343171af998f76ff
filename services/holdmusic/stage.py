"""The players of this instance: requests in, paced audio out, one ticker for all of them."""

import asyncio
import collections
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from services.holdmusic import builtin, metrics
from services.holdmusic.library import Library, Pick
from services.holdmusic.player import TICK_MS, Player
from shared import subjects
from shared.audio import FORMATS
from shared.bus import Bus
from shared.messages import (
    Message,
    MusicRefused,
    MusicStarted,
    MusicStatus,
    PlayMusic,
    StopMusic,
)

log = logging.getLogger(__name__)

#: A request that is handled after its own stop must not play: stops are remembered this long, and
#: this many.  Not for ever: a call's next owner may count its holds anew.
STOPPED_S: Final = 2.0
STOPPED_MAX: Final = 10_000
#: Marks the stop by which one instance tells the others that it plays this hold.
_MINE: Final = "played by "
_NUMBER: Final = re.compile(r"[0-9]{1,9}")

#: (call, hold): what there is one player for.
Place = tuple[str, int]


@dataclass(slots=True)
class Playing:
    """A hold that plays."""

    player: Player
    subject: str
    answer: MusicStarted


class Stage:
    """Plays for at most `max_holds` calls.  Use `start` before, and `stop` after."""

    def __init__(self, name: str, bus: Bus, library: Library, *, max_holds: int) -> None:
        self.name = name
        self.max_holds = max_holds
        self._bus = bus
        self._library = library
        self._playing: dict[Place, Playing] = {}
        self._starting: dict[Place, asyncio.Task[MusicStarted | MusicRefused]] = {}
        self._stopped: collections.OrderedDict[Place, float] = collections.OrderedDict()
        self._answers: set[asyncio.Task[None]] = set()
        self._group: list[Subscription] = []
        self._stops: Subscription | None = None
        self._busy = asyncio.Event()
        #: Ends only by `stop`, or by a fault of ours.
        self.ticker: asyncio.Task[None] | None = None
        self._closing = False
        metrics.MAX.set(max_holds)

    @property
    def holds(self) -> list[Place]:
        """What plays now."""
        return list(self._playing)

    async def start(self) -> None:
        """Join the queue group."""
        self.ticker = asyncio.create_task(self._tick(), name="ticker")
        # First the stops: a hold must be stoppable as soon as it can begin.
        self._stops = await self._bus.subscribe(subjects.ALL_HOLD_STOPS, self._on_stop)
        for subject, handle in (
            (subjects.HOLD_PLAY, self._on_play),
            (subjects.HOLD_STATUS, self._on_status),
            (subjects.HOLD_FILES, self._on_files),
        ):
            self._group.append(await self._bus.subscribe(subject, handle, queue=subjects.MUSICIANS))
        await self._bus.flush()

    async def stop(self) -> None:
        """Leave the queue group and end all players: the callers hear silence, and talk on."""
        self._closing = True
        for subscription in self._group:
            await self._bus.drain(subscription)
        for place in self.holds:
            self._end(place, "service")
        if self._stops is not None:
            await self._bus.unsubscribe(self._stops)
        if self._answers:
            await asyncio.wait(self._answers, timeout=2)
        tasks = [*self._answers, *self._starting.values()]
        if self.ticker is not None:
            tasks.append(self.ticker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- requests ---------------------------------------------------------------------------

    async def _on_play(self, message: Msg) -> None:
        try:
            request = PlayMusic.decode(message.data)
        except ValidationError:
            metrics.MALFORMED.inc()
            metrics.REFUSED.labels("invalid").inc()
            await _respond(message, MusicRefused(code="invalid", message="not a PlayMusic"))
            return
        # Not here: twenty requests at once would wait for each other's tracks.
        self._answer(message, lambda: self._play(request))

    async def _on_status(self, message: Msg) -> None:
        self._answer(message, self._status)

    async def _on_files(self, message: Msg) -> None:
        self._answer(message, self._library.files)

    def _answer(self, message: Msg, work: Callable[[], Awaitable[Message]]) -> None:
        async def body() -> None:
            try:
                answer = await work()
            except Exception:
                # The top frame of a request: what breaks in it breaks nothing else.
                log.exception("a request failed", extra={"subject": message.subject})
                answer = MusicRefused(code="failed", message="see the service's log")
            await _respond(message, answer)

        task = asyncio.create_task(body(), name="answer")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _status(self) -> MusicStatus:
        return MusicStatus(
            instance=self.name,
            stores=self._library.states(),
            default_track=self._library.default or builtin.NAME,
            cached=len(self._library.cache.versions),
            holds=[call for call, _ in self._playing],
        )

    async def _play(self, request: PlayMusic) -> MusicStarted | MusicRefused:
        began = asyncio.get_running_loop().time()
        place = (request.call, request.hold)
        if (playing := self._playing.get(place)) is not None:
            return playing.answer
        task = self._starting.get(place)
        if task is None:
            if refusal := self._refusal(place):
                metrics.REFUSED.labels(refusal.code).inc()
                return refusal
            task = asyncio.create_task(self._begin(place, request), name="begin")
            self._starting[place] = task
            task.add_done_callback(lambda _: self._starting.pop(place, None))
        answer = await task
        metrics.ANSWER_S.observe(asyncio.get_running_loop().time() - began)
        return answer

    def _refusal(self, place: Place) -> MusicRefused | None:
        if self._closing:
            return MusicRefused(code="failed", message="this instance is stopping")
        if self._was_stopped(place):
            return MusicRefused(code="failed", message="this hold was stopped already")
        active = len(self._playing) + len(self._starting)
        if active >= self.max_holds:
            return MusicRefused(code="full", message=f"{active} calls hear music")
        return None

    async def _begin(self, place: Place, request: PlayMusic) -> MusicStarted | MusicRefused:
        pick = await self._library.pick(request.track, request.audio)
        if self._closing or self._was_stopped(place):
            return MusicRefused(code="failed", message="stopped before it began")
        now = asyncio.get_running_loop().time()
        answer = MusicStarted(track=pick.track, source=pick.source, fallback=_brief(pick.fallback))
        playing = Playing(
            Player(pick.audio, FORMATS[request.audio], now, limit_s=request.limit_s),
            subjects.hold_audio(*place),
            answer,
        )
        self._claim(place)
        self._playing[place] = playing
        self._told(place, pick)
        self._send(place, playing, now)
        self._busy.set()
        return answer

    def _told(self, place: Place, pick: Pick) -> None:
        metrics.HOLDS.set(len(self._playing))
        metrics.STARTED.labels(pick.source).inc()
        if pick.fallback is not None:
            metrics.FALLBACKS.inc()
        log.info(
            "music began",
            extra={
                "call": place[0],
                "hold": place[1],
                "track": pick.track,
                "source": pick.source,
                "fallback": pick.fallback,
            },
        )

    # --- stopping ---------------------------------------------------------------------------

    async def _on_stop(self, message: Msg) -> None:
        place = _place(message.subject)
        if place is None:
            metrics.MALFORMED.inc()
            return
        if (other := _claimant(message.data)) is not None:
            self._claimed(place, other)
            return
        self._stopped[place] = asyncio.get_running_loop().time()
        self._stopped.move_to_end(place)
        if len(self._stopped) > STOPPED_MAX:
            self._stopped.popitem(last=False)
        self._end(place, "stop")

    def _was_stopped(self, place: Place) -> bool:
        at = self._stopped.get(place)
        return at is not None and asyncio.get_running_loop().time() - at < STOPPED_S

    def _claim(self, place: Place) -> None:
        """Tell the other instances that this hold plays here.

        A request that was repeated may have reached two of us.  Two players on one subject would be
        noise; the one with the greater name plays on.
        """
        claim = StopMusic(reason=f"{_MINE}{self.name}"[:64])
        self._bus.send_control(subjects.hold_stop(*place), claim, urgent=True)

    def _claimed(self, place: Place, other: str) -> None:
        if place not in self._playing or other == self.name:
            return
        if other > self.name:
            self._end(place, "moved")
        else:
            self._claim(place)

    def _end(self, place: Place, how: str) -> None:
        playing = self._playing.pop(place, None)
        if playing is None:
            return
        metrics.HOLDS.set(len(self._playing))
        metrics.ENDED.labels(how).inc()
        log.info(
            "music ended",
            extra={
                "call": place[0],
                "hold": place[1],
                "how": how,
                "sent_ms": playing.player.position_ms,
                "skipped_ms": playing.player.skipped_ms,
            },
        )

    # --- playing ----------------------------------------------------------------------------

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not self._playing:
                self._busy.clear()
                await self._busy.wait()
                due = loop.time()
            due += TICK_MS / 1000
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            metrics.LATE_S.observe(max(0.0, now - due))
            # After a stall the ticks that were missed are not made up for: a player knows by
            # itself how much is due.
            due = max(due, now - TICK_MS / 1000)
            for place, playing in list(self._playing.items()):
                self._send(place, playing, now)

    def _send(self, place: Place, playing: Playing, now: float) -> None:
        player = playing.player
        skipped_ms = player.skipped_ms
        audio = player.due(now)
        if audio:
            # Dropped and counted by the bus while NATS is away; the schedule goes on.
            self._bus.send_audio(playing.subject, audio)
        if player.skipped_ms > skipped_ms:
            metrics.SKIPPED_MS.inc(player.skipped_ms - skipped_ms)
        if player.over:
            self._end(place, "limit")


async def _respond(message: Msg, answer: Message) -> None:
    try:
        await message.respond(answer.encode())
    except nats.errors.Error as error:
        # Nobody to answer to (a bare publish), or the connection is going away.
        log.debug("an answer was not sent", extra={"error": repr(error)})


def _place(subject: str) -> Place | None:
    """Of `call.C.hold.<n>.stop`; None for what is not one of ours."""
    tokens = subject.split(".")
    if len(tokens) != 5 or not subjects.is_call_id(tokens[1]) or not _NUMBER.fullmatch(tokens[3]):
        return None
    return tokens[1], int(tokens[3])


def _claimant(data: bytes) -> str | None:
    """The instance that says it plays this hold; None when this is a plain stop."""
    try:
        reason = StopMusic.decode(data).reason
    except ValidationError:
        return None  # whatever it says, the subject says stop
    return reason.removeprefix(_MINE) if reason.startswith(_MINE) else None


def _brief(reason: str | None) -> str | None:
    """For the call's story: one short line."""
    return None if reason is None else reason[:200]
