"""Is somebody speaking right now? Pure: told the loudness of every 20 ms frame, in order."""

from simulators.g711 import FRAME_MS
from simulators.recording import THRESHOLD_DBFS

__all__ = ["UTTERANCE_GAP_MS", "Meter"]

UTTERANCE_GAP_MS = 600
"""A silence this long ends an utterance: longer than the pause between two sentences."""

_AUDIBLE_MS = 200
"""Sound this recent still counts as speaking: there are such gaps inside words."""


class Meter:
    """Follows one voice: whether it is audible, since when, and how much of it was heard."""

    def __init__(self) -> None:
        self.now_ms = 0
        """End of the last frame told."""
        self.first_sound_ms: int | None = None
        self.utterance_began_ms: int | None = None
        """When the current utterance began; None between utterances."""
        self.last_began_ms: int | None = None
        """When the latest utterance began, current or past."""
        self.last_sound_ms: int | None = None
        """End of the last frame with sound in it."""

    @property
    def audible(self) -> bool:
        return self.last_sound_ms is not None and self.quiet_ms < _AUDIBLE_MS

    @property
    def quiet_ms(self) -> int:
        """How long there has been no sound; since the call began, if there never was any."""
        return self.now_ms - (self.last_sound_ms or 0)

    @property
    def utterance_ms(self) -> int:
        """Length of the current utterance up to its last sound, 0 between utterances."""
        if self.utterance_began_ms is None or self.last_sound_ms is None:
            return 0
        return self.last_sound_ms - self.utterance_began_ms

    def feed(self, loudness_dbfs: float) -> None:
        """Tell the loudness of the next frame."""
        began_ms = self.now_ms
        self.now_ms += FRAME_MS
        if loudness_dbfs > THRESHOLD_DBFS:
            if self.first_sound_ms is None:
                self.first_sound_ms = began_ms
            if self.utterance_began_ms is None:
                self.utterance_began_ms = self.last_began_ms = began_ms
            self.last_sound_ms = self.now_ms
        elif self.quiet_ms >= UTTERANCE_GAP_MS:
            self.utterance_began_ms = None

    def end_utterance(self) -> None:
        """What comes next is another utterance, however soon: this one was cut off."""
        self.utterance_began_ms = None
