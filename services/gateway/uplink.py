"""From the phone to the call's owner: audio without gaps, control in its place in time.

Until the owner listens, what the caller says and presses is kept, bounded, and goes first.
"""

from services.gateway import metrics
from services.gateway.early import Early
from services.gateway.gaps import Gaps
from services.gateway.terms import Limits
from shared import subjects
from shared.audio import PCMU
from shared.bus import Bus
from shared.messages import DtmfPressed, LegStarted, MarkReturned, Message


class Uplink:
    """One leg's way up."""

    def __init__(self, bus: Bus, limits: Limits) -> None:
        self.frames = 0
        self.gaps = Gaps(PCMU)
        #: Known when the owner has attached the leg.
        self.leg: int | None = None
        self._bus = bus
        self._audio_subject = ""
        self._control_subject = ""
        self._live = False
        self._early = Early(
            audio_max_bytes=limits.held_ms * PCMU.bytes_per_ms, controls_max=limits.held_controls
        )

    def attached(self, call: str, leg: int) -> None:
        """The owner has a number for this leg; it need not listen yet."""
        self.leg = leg
        self._audio_subject = subjects.up(call, leg, "audio")
        self._control_subject = subjects.up(call, leg, "ctl")

    def go_live(self) -> None:
        """The owner may speak and listens.

        Nothing here waits, so nothing that the phone sends can slip in between.
        """
        self.tell(LegStarted())
        for one in self._early.release():
            if isinstance(one, bytes):
                self._bus.send_audio(self._audio_subject, one)
            else:
                self._bus.send_control(self._control_subject, one)
        self._live = True

    def take_audio(self, timestamp_ms: int | None, audio: bytes) -> None:
        """A frame of the caller."""
        self.frames += 1
        if timestamp_ms is not None:
            missing = self.gaps.before(timestamp_ms, len(audio))
            if missing:
                metrics.GAPS_FILLED_MS.inc(PCMU.ms(missing))
                audio = PCMU.silent_sample * missing + audio
        if not audio:
            return
        if self._live:
            self._bus.send_audio(self._audio_subject, audio)
        elif dropped := self._early.keep_audio(audio):
            metrics.DROPPED_EARLY.inc(dropped)

    def take_control(self, message: MarkReturned | DtmfPressed) -> bool:
        """A mark or a key.  False: there were too many before the owner listened; not kept."""
        if self._live:
            # Through the same queue as audio, so it keeps its place in time.
            self.tell(message)
            return True
        return self._early.keep_control(message)

    def tell(self, message: Message) -> None:
        """Something of our own; dropped when there is no owner to tell."""
        if self.leg is not None:
            self._bus.send_control(self._control_subject, message, urgent=True)
