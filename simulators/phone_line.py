"""The caller's end of the line: a mouth, an ear, and one clock of 20 ms frames.

Every 20 ms of an absolute schedule (a late frame does not delay the next, so nothing drifts) the
line takes a frame from the caller's mouth, gives it to the stream if there is one, plays what is
due in the caller's ear, and records both.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from simulators.g711 import FRAME_BYTES, FRAME_MS, SAMPLE_RATE, SILENCE
from simulators.phone_journal import Journal
from simulators.phone_meter import Meter
from simulators.playout import PlayoutBuffer
from simulators.recording import Recording
from simulators.watch import Watch

__all__ = ["Line", "Mouth"]

_SILENT_FRAME = bytes([SILENCE]) * FRAME_BYTES

_MOUTH_LIMIT_BYTES = 10 * 60 * SAMPLE_RATE
"""Ten minutes of speech waiting to be spoken is a mistake in a test."""


class Mouth:
    """What the caller is going to say: audio that leaves in frames of 20 ms."""

    def __init__(self) -> None:
        self.queued_bytes = 0
        self.spoken_bytes = 0
        self._chunks: deque[bytes] = deque()

    @property
    def speaking(self) -> bool:
        return self.spoken_bytes < self.queued_bytes

    def queue(self, audio: bytes) -> int:
        """Say this after everything else; returns the `spoken_bytes` at which it has been said."""
        # Padded to whole frames, so that one utterance never begins inside another's frame.
        audio += bytes([SILENCE]) * (-len(audio) % FRAME_BYTES)
        if self.queued_bytes - self.spoken_bytes + len(audio) > _MOUTH_LIMIT_BYTES:
            raise ValueError("more than ten minutes of speech are waiting to be spoken")
        if audio:
            self._chunks.append(audio)
            self.queued_bytes += len(audio)
        return self.queued_bytes

    def frame(self) -> bytes:
        """Return the next 20 ms; silence when there is nothing to say."""
        if not self._chunks:
            return _SILENT_FRAME
        chunk = self._chunks.popleft()
        if len(chunk) > FRAME_BYTES:
            self._chunks.appendleft(chunk[FRAME_BYTES:])
        self.spoken_bytes += FRAME_BYTES
        return chunk[:FRAME_BYTES]

    def hush(self) -> None:
        """Say no more."""
        self._chunks.clear()
        self.queued_bytes = self.spoken_bytes


class Line:
    """One caller's mouth and ear, running in real time until cancelled."""

    def __init__(self, journal: Journal, watch: Watch) -> None:
        self.mouth = Mouth()
        self.recording = Recording()
        self.agent = Meter()
        """How the agent sounds in the caller's ear."""
        self.caller = Meter()
        self.player: PlayoutBuffer | None = None
        """What is being played to the caller; replaced as the call moves on."""
        self._announcing = False
        self._on_frame: Callable[[bytes], None] | None = None
        self._on_played: Callable[[], None] | None = None
        self._journal = journal
        self._watch = watch
        self._frame = 0

    def attach(
        self,
        player: PlayoutBuffer,
        *,
        on_frame: Callable[[bytes], None],
        on_played: Callable[[], None],
    ) -> None:
        """Let a stream hear the caller and speak to it.

        `on_frame` gets each 20 ms of the caller; `on_played` is called when `player` advanced.
        """
        self.player = player
        self._announcing = False
        self._on_frame = on_frame
        self._on_played = on_played

    def detach(self) -> None:
        """The stream is over: what it had queued is not heard any more."""
        self.player = self._on_frame = self._on_played = None

    async def announce(self, audio: bytes) -> None:
        """Play Twilio's own voice to the caller; returns when it was heard."""
        self.detach()
        player = PlayoutBuffer(now=self._journal.now)
        player.queue(audio, self._journal.now)
        self.player, self._announcing = player, True
        seconds = len(audio) / SAMPLE_RATE
        try:
            await self._watch.until(
                lambda: not player.pending_bytes,
                timeout_s=2 * seconds + 10,  # it takes `seconds`; the rest is for a slow machine
                what="an announcement to be played",
            )
        finally:
            self.player, self._announcing = None, False

    async def run(self) -> None:
        """Keep the line alive, for ever."""
        while True:
            due_s = (self._frame + 1) * FRAME_MS / 1000
            await asyncio.sleep(max(0.0, due_s - self._journal.now))
            self.tick(self._journal.now)

    def tick(self, now: float) -> None:
        """Let one frame pass."""
        frame = self.mouth.frame()
        self.recording.write_said(self._frame * FRAME_BYTES, frame)
        if self._on_frame is not None:
            self._on_frame(frame)
        if self.player is not None:
            self.player.advance(now)
            for position, audio in self.player.take_audio():
                self.recording.write_heard(position, audio, announcement=self._announcing)
            if self._on_played is not None:
                self._on_played()
        self._listen(self.caller, "caller", self.recording.loudness("said", self._frame))
        self._listen(self.agent, "agent", self.recording.loudness("agent", self._frame))
        self._frame += 1
        self._watch.notify()

    def _listen(self, meter: Meter, who: str, loudness_dbfs: float) -> None:
        before = meter.utterance_began_ms
        meter.feed(loudness_dbfs)
        if before is None and meter.utterance_began_ms is not None:
            if who == "agent" and meter.first_sound_ms == meter.utterance_began_ms:
                self._journal.note("first_audio", ms=meter.utterance_began_ms)
            self._journal.note(f"{who}_starts", ms=meter.utterance_began_ms)
        elif before is not None and meter.utterance_began_ms is None:
            self._journal.note(f"{who}_stops", ms=meter.last_sound_ms)
