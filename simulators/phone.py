"""A telephone with Twilio behind it: calls a webhook, and behaves as caller and vendor together.

    async with Phone(webhook="http://127.0.0.1:8080/twiml", auth_token="...") as phone:
        await phone.dial()
        await phone.wait_agent_turn()
        await phone.say("What's the weather in Lisbon?")
        await phone.wait_agent_turn()
        await phone.hang_up()
    phone.recording.write_wav("call.wav")
    print(phone.summary())

Everything that can be heard is real audio in real time, on a line that is recorded on both sides.
Nothing is shared with the services it tests. From a shell: `python -m simulators.phone --help`.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators import g711, twiml
from simulators.audio_file import read_wav
from simulators.phone_journal import CallWarning, Event, Journal, Outcome, OutcomeKind
from simulators.phone_line import Line
from simulators.phone_summary import judge
from simulators.playout import Clear, Mark
from simulators.recording import Recording
from simulators.twilio_calls import CallFlow, Goto, spoken
from simulators.twilio_dial import DialResults, OtherParty, other_parties
from simulators.twilio_stream import MediaStream
from simulators.twilio_webhooks import CallIdentity, Webhooks, new_sid
from simulators.watch import Watch

__all__ = ["CallEndedError", "Event", "OtherParty", "Outcome", "OutcomeKind", "Phone"]

_KEYS = "0123456789*#ABCD"

_KEY_S = 0.1
"""From one key to the next: as fast as a telephone dials."""


class CallEndedError(Exception):
    """The call was over before what was asked of the phone could happen."""


class Phone:
    """One call. An async context manager: nothing of it is left running afterwards."""

    def __init__(
        self,
        webhook: str,
        *,
        from_: str = "+15557778888",
        to: str = "+15551230000",
        auth_token: str | None = None,
        account_sid: str | None = None,
        call_sid: str | None = None,
        status_callback: str | None = None,
        webhook_method: str = "POST",
        lose_frames: Collection[int] = (),
        dial_results: DialResults | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """A call that is not dialled yet.

        `lose_frames`: indices of 20 ms frames that get lost between caller and stream.
        `dial_results`: what people do to whom `<Dial>` transfers the call, by number, for example
        `{"+15550001111": "no-answer", "+15550002222": OtherParty(talk_s=5)}`; with any other
        number the call ends there.
        """
        self.identity = CallIdentity(
            account_sid=account_sid or new_sid("AC"),
            call_sid=call_sid or new_sid("CA"),
            from_=from_,
            to=to,
        )
        self.outcome = Outcome(OutcomeKind.IN_PROGRESS)
        self.said_text: list[str] = []
        """What the caller said in words."""
        self._webhook = webhook
        self._webhook_method = webhook_method
        self._status_callback = status_callback
        self._journal = Journal(on_event)
        self._watch = Watch()
        self._line = Line(self._journal, self._watch)
        self._webhooks = Webhooks(self.identity, auth_token=auth_token, journal=self._journal)
        self._flow = CallFlow(
            webhooks=self._webhooks,
            line=self._line,
            journal=self._journal,
            watch=self._watch,
            lose_frames=lose_frames,
            others=other_parties(dial_results or {}),
        )
        self._line_task: asyncio.Task[None] | None = None
        self._call_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Phone":
        await self._webhooks.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.hang_up()
        finally:
            await _cancelled(self._call_task)
            await _cancelled(self._line_task)
            await self._webhooks.close()

    # The call as a whole

    @property
    def over(self) -> bool:
        return self.outcome.kind is not OutcomeKind.IN_PROGRESS

    @property
    def dialled(self) -> bool:
        return self._call_task is not None

    async def dial(self, *, timeout_s: float = 120.0) -> None:
        """Call. Returns when the first stream is connected, or the call is over: see `outcome`.

        The limit allows for an announcement before the stream.
        """
        assert self._line_task is None, "a phone makes one call"
        self._journal.begin()
        self._line_task = asyncio.create_task(self._line.run())
        self._line_task.add_done_callback(lambda _: self._watch.notify())
        self._call_task = asyncio.create_task(
            self._follow(lambda: self._flow.run(Goto(self._webhook, self._webhook_method)))
        )
        await self._until(
            lambda: self.over or bool(self._flow.streams), timeout_s, "the call to be connected"
        )

    async def hang_up(self) -> None:
        """The caller hangs up: `stop`, the socket closes, the status callback is told."""
        if self.over or self._call_task is None:
            return
        self._journal.note("hang_up")
        await self._leave_document()
        self._end(Outcome(OutcomeKind.COMPLETED_BY_CALLER))

    async def abort_stream(self) -> None:
        """Lose the WebSocket without a word; the caller is still there, and `action` is asked."""
        stream = self._stream("lose its connection")
        self._journal.note("abort_stream")
        stream.abort()
        await self._until(
            lambda: self._flow.stream is not stream or self.over, 10, "the stream to be gone"
        )

    async def update(self, *, document: str | None = None, url: str | None = None) -> None:
        """Do what a REST update of the call does: `stop`, and then the new TwiML, or its URL."""
        assert (document is None) != (url is None), "either a document or its URL"
        if self.over or self._call_task is None:
            raise CallEndedError("no call to update")
        self._journal.note("updated", url or "twiml")
        await self._leave_document()
        if self.over:
            raise CallEndedError("the call ended before it was updated")
        self._call_task = asyncio.create_task(
            self._follow(lambda: self._updated(document, url or ""))
        )

    async def complete(self) -> None:
        """Do what a REST update with `status=completed` does: `stop`, and the call is over."""
        if self.over or self._call_task is None:
            return
        await self._leave_document()
        self._end(Outcome(OutcomeKind.COMPLETED_BY_SERVER, "completed by REST"))

    async def wait_ended(self, timeout_s: float = 30.0) -> None:
        """Return when the call is over, whoever ended it."""
        await self._until(lambda: self.over, timeout_s, "the call to end")

    # The caller's voice and keys

    async def say(self, text: str, *, voice: str = "caller") -> None:
        """Say something, after what is still being said; returns when it was spoken."""
        audio = await asyncio.to_thread(spoken, text, voice)
        self._check_alive("speak")
        self.said_text.append(text)
        self._journal.note("caller_says", text)
        await self._speak(audio)

    async def play_wav(self, path: Path | str) -> None:
        """Play a 16-bit WAV file of any rate into the telephone."""
        pcm = await asyncio.to_thread(read_wav, Path(path), g711.SAMPLE_RATE)
        self._journal.note("caller_plays", str(path))
        await self.play_pcm(pcm)

    async def play_pcm(self, pcm: NDArray[np.int16]) -> None:
        """Play 16-bit samples at 8000 Hz into the telephone."""
        await self._speak(g711.encode(pcm))

    async def dtmf(self, digits: str) -> None:
        """Press keys, one after the other."""
        for digit in digits:
            if digit not in _KEYS:
                raise ValueError(f"{digit!r} is not a key of a telephone: {_KEYS}")
            self._stream("press a key").dtmf(digit)
            self._journal.note("dtmf", digit)
            await self._next_key(self._journal.now + _KEY_S)

    # The caller's ear

    async def wait_agent_speaking(self, timeout_s: float = 10.0) -> None:
        """Return while the agent can be heard."""
        await self._until_alive(lambda: self._line.agent.audible, timeout_s, "the agent to speak")

    async def wait_agent_quiet(self, quiet_ms: int = 700, timeout_s: float = 30.0) -> None:
        """Return when the agent has been silent for so long and nothing is left to be played.

        An agent that has not begun yet is silent too: for its answer, use `wait_agent_turn`.
        """
        await self._until(lambda: self.over or self._quiet(quiet_ms), timeout_s, "the agent to end")

    async def wait_agent_turn(self, quiet_ms: int = 700, timeout_s: float = 30.0) -> None:
        """Return when the agent has said something since the caller spoke, and is quiet again."""
        await self._until_alive(
            lambda: self._answered() and self._quiet(quiet_ms), timeout_s, "the agent's turn"
        )

    async def wait_heard_ms(self, heard_ms: int, timeout_s: float = 20.0) -> None:
        """Return when so much of what the agent is saying now has been heard."""
        await self._until_alive(
            lambda: self._line.agent.utterance_ms >= heard_ms,
            timeout_s,
            f"{heard_ms} ms of the agent",
        )

    # What is known afterwards, or meanwhile

    @property
    def recording(self) -> Recording:
        return self._line.recording

    @property
    def said(self) -> NDArray[np.int16]:
        """The caller's voice on the timeline, 8000 Hz."""
        return self.recording.said

    @property
    def heard(self) -> NDArray[np.int16]:
        """What the caller heard on the same timeline."""
        return self.recording.heard

    @property
    def heard_say(self) -> list[str]:
        """Texts that Twilio spoke to the caller (`<Say>`)."""
        return self._flow.said

    @property
    def events(self) -> list[Event]:
        """What happened, in time order: that somebody stopped speaking is only known later."""
        return sorted(self._journal.events, key=lambda event: event.ms)

    @property
    def warnings(self) -> list[CallWarning]:
        return self._journal.warnings

    @property
    def streams(self) -> list[MediaStream]:
        """Every stream that was opened, in order."""
        return self._flow.streams

    @property
    def clears(self) -> list[Clear]:
        """Every `clear` received, with what had been heard by then."""
        return [clear for stream in self.streams for clear in stream.playout.clears]

    @property
    def marks(self) -> list[Mark]:
        """Every mark received, with what became of it."""
        return [mark for stream in self.streams for mark in stream.playout.marks]

    @property
    def answered_by_agent(self) -> bool:
        """Whether the caller ever heard an agent."""
        return self._line.agent.first_sound_ms is not None

    def summary(self) -> dict[str, object]:
        """Return the call in numbers, ready for JSON; times are in milliseconds."""
        began_ms = self.streams[0].opened_ms if self.streams else None
        return {
            "call_sid": self.identity.call_sid,
            "outcome": str(self.outcome.kind),
            "reason": self.outcome.reason,
            "answered_by_agent": self.answered_by_agent,
            "duration_ms": self.recording.duration_ms,
            **judge(self.recording, stream_began_ms=began_ms).to_json(),
            "streams": len(self.streams),
            "clears": len(self.clears),
            "marks_played": sum(mark.played_ms is not None for mark in self.marks),
            "marks_cleared": sum(mark.cleared for mark in self.marks),
            "said": self.said_text,
            "announcements": self.heard_say,
            "warnings": [warning._asdict() for warning in self.warnings],
            "events_dropped": self._journal.events_dropped,
        }

    # Private

    async def _follow(self, flow: Callable[[], Awaitable[Outcome]]) -> None:
        try:
            self._end(await flow())
        except Exception as exc:
            # A fault of the simulator: nobody may wait for this call any longer.
            self._end(Outcome(OutcomeKind.FAILED, f"the simulator failed: {exc!r}"))
            raise

    async def _updated(self, document: str | None, url: str) -> Outcome:
        if document is not None:
            try:
                result = await self._flow.obey(twiml.parse(document, self._webhook))
            except twiml.TwimlError as exc:
                self._journal.warn(exc.code, str(exc))
                return Outcome(OutcomeKind.FAILED, f"{exc.code} {exc}")
            if isinstance(result, Outcome):
                return result
            return await self._flow.run(result)
        return await self._flow.run(Goto(url, "POST"))

    async def _leave_document(self) -> None:
        if self._flow.stream is not None:
            await self._flow.stream.stop()
        await _cancelled(self._call_task)

    def _end(self, outcome: Outcome) -> None:
        if self.over:
            return
        self.outcome = outcome
        self._line.mouth.hush()
        if self._line_task is not None:
            self._line_task.cancel()
        self._journal.note("ended", str(outcome))
        if self._status_callback is not None:
            began_s = self._flow.answered_s
            self._webhooks.call_completed(
                self._status_callback,
                _call_status(outcome),
                0.0 if began_s is None else self._journal.now - began_s,
            )
        self._watch.notify()

    async def _speak(self, audio: bytes) -> None:
        self._check_alive("speak")
        mouth = self._line.mouth
        until = mouth.queue(audio)
        seconds = (until - mouth.spoken_bytes) / g711.SAMPLE_RATE
        await self._until_alive(
            lambda: mouth.spoken_bytes >= until,
            2 * seconds + 10,  # it takes `seconds`; the rest is for a slow machine
            "the caller to have spoken",
        )

    async def _next_key(self, due_s: float) -> None:
        await self._until(lambda: self._journal.now >= due_s or self.over, 10, "the next key")

    def _quiet(self, quiet_ms: int) -> bool:
        player = self._line.player
        waiting = player is not None and player.pending_bytes > 0
        return self._line.agent.quiet_ms >= quiet_ms and not waiting

    def _answered(self) -> bool:
        agent, caller = self._line.agent, self._line.caller
        if agent.last_began_ms is None or agent.last_sound_ms is None:
            return False
        if caller.last_began_ms is None or caller.last_sound_ms is None:
            return True
        # What was begun before the caller spoke is not an answer, however long it goes on.
        return (
            agent.last_began_ms > caller.last_began_ms
            and agent.last_sound_ms > caller.last_sound_ms
        )

    def _stream(self, to: str) -> MediaStream:
        self._check_alive(to)
        if self._flow.stream is None:
            raise CallEndedError(f"there is no stream to {to}")
        return self._flow.stream

    def _check_alive(self, to: str) -> None:
        if self.over:
            raise CallEndedError(f"the call is over, too late to {to} ({self.outcome})")
        assert self._call_task is not None, "dial() comes first"

    async def _until_alive(self, check: Callable[[], bool], timeout_s: float, what: str) -> None:
        await self._until(lambda: self.over or check(), timeout_s, what)
        if self.over:
            raise CallEndedError(f"the call ended while waiting for {what} ({self.outcome})")

    async def _until(self, check: Callable[[], bool], timeout_s: float, what: str) -> None:
        def check_with_a_living_line() -> bool:
            line = self._line_task
            if line is not None and line.done() and not line.cancelled():
                line.result()  # raises what killed it: without its clock no check comes true
            return check()

        await self._watch.until(check_with_a_living_line, timeout_s=timeout_s, what=what)


def _call_status(outcome: Outcome) -> str:
    match outcome.kind:
        case OutcomeKind.REJECTED:  # Twilio: a refused call is "busy", or "no-answer"
            return "busy" if outcome.reason == "busy" else "no-answer"
        case OutcomeKind.FAILED:
            return "failed"
        case _:
            return "completed"


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    """End a task; what killed it, if it did not end by itself, is raised."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    from simulators.phone_command import main

    sys.exit(main())
