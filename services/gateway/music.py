"""Hold music on its way to one phone.

The owner says when: `hold_on{n}` and `hold_off{n}` come on the subscription of its own audio, so
they have their place among what the agent says.  The music comes on a subject of its own,
`call.C.hold.<n>.audio`, and may be late: what does not belong to the hold that is on is dropped.
"""

import logging
from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared import subjects
from shared.bus import Bus

log = logging.getLogger(__name__)


class Music:
    """At most one hold is on.  `silence` works at once; `leave` then ends the subscription."""

    def __init__(self, bus: Bus, play: Callable[[bytes], Awaitable[None]]) -> None:
        """`play` puts audio into the phone."""
        self.hold: int | None = None
        #: Forwarded in all holds.
        self.frames = 0
        self._bus = bus
        self._play = play
        self._subject = ""
        self._subscription: Subscription | None = None
        self._frames_before = 0

    async def listen(self, call: str, hold: int) -> None:
        """Forward the music of this hold from now on, and of no other."""
        self.silence()
        await self.leave()
        self.hold = hold
        self._subject = subject = subjects.hold_audio(call, hold)
        self._frames_before = self.frames
        try:
            subscription = await self._bus.subscribe(subject, self._on_frame)
        except nats.errors.Error:
            log.warning("NATS is closed: no hold music", extra={"call": call})
            return
        if self._subject == subject:
            self._subscription = subscription
        else:  # the stream has ended in the meantime
            await self._bus.unsubscribe(subscription)

    def silence(self) -> bool:
        """Forward nothing more.  True: some of it was, and may be waiting in Twilio's buffer."""
        played = self.hold is not None and self.frames > self._frames_before
        self.hold = None
        self._subject = ""
        return played

    async def leave(self) -> None:
        """End the interest in what `silence` has silenced."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._bus.unsubscribe(subscription)

    async def _on_frame(self, msg: Msg) -> None:
        if msg.subject == self._subject:
            self.frames += 1
            await self._play(msg.data)
