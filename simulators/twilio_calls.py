"""What Twilio does with a call: asks for a document, obeys it verb by verb, asks for the next.

The one rule that matters most to a gateway: `<Connect>` blocks the document. When its stream is
over and the caller is still there, Twilio asks the `action` URL, else goes on to the next verb,
else hangs up.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import NamedTuple, assert_never

from simulators import g711, speech, twiml
from simulators.phone_journal import Journal, Outcome, OutcomeKind
from simulators.phone_line import Line
from simulators.twilio_dial import DialResult, OtherParty
from simulators.twilio_stream import MediaStream, StreamEnd, StreamRefusedError
from simulators.twilio_webhooks import Webhooks, new_sid
from simulators.watch import Watch

__all__ = ["CallFlow"]

DOCUMENTS_MAX = 20
"""TwiML documents in one call. More is a loop: a stream re-attached for ever."""

_PAUSE_S_MAX = 600.0
_SAY_LOOPS_MAX = 10
"""Twilio repeats <Say loop="0"> without end; nobody needs to hear that here."""

_SAY_VOICE = "say"
"""Not one of the agent's or the caller's voices, so that a recording tells them apart."""

_OTHER_PARTY_VOICE = "caller2"
"""Somebody the call was transferred to."""

_DTMF_S = {"w": 0.5, "W": 1.0}
"""How long <Play digits> waits at these, by Twilio's description."""


class Goto(NamedTuple):
    """Where the next document is, and what its server is told about the verb that ended."""

    url: str
    method: str
    parameters: Mapping[str, str] = {}


class CallFlow:
    """Obeys the documents of one call."""

    def __init__(
        self,
        *,
        webhooks: Webhooks,
        line: Line,
        journal: Journal,
        watch: Watch,
        lose_frames: Collection[int] = (),
        others: Mapping[str, OtherParty] | None = None,
    ) -> None:
        """`others` are the people behind numbers; <Dial> of any other number ends the call."""
        self.answered_s: float | None = None
        """When the call was answered, on its timeline."""
        self.said: list[str] = []
        """Texts of every `<Say>`."""
        self.streams: list[MediaStream] = []
        self.stream: MediaStream | None = None
        """The one that carries the caller now."""
        self._webhooks = webhooks
        self._line = line
        self._journal = journal
        self._watch = watch
        self._lose_frames = lose_frames
        self._others = others or {}
        self._documents = 0

    async def run(self, first: Goto) -> Outcome:
        """Follow the documents from this one on, until the call is over for Twilio."""
        (url, method, parameters), why = first, "webhook"
        while True:
            self._documents += 1
            if self._documents > DOCUMENTS_MAX:
                return self._failed(f"more than {DOCUMENTS_MAX} documents: going round in circles")
            self._journal.note(why, f"{method} {url}")
            status = "ringing" if self.answered_s is None else "in-progress"
            try:
                document = await self._webhooks.fetch(url, method, status, parameters)
            except twiml.TwimlError as exc:
                self._journal.warn(exc.code, str(exc))
                return self._failed(f"{exc.code} {exc}")
            result = await self.obey(document)
            if isinstance(result, Outcome):
                return result
            (url, method, parameters), why = result, "action"

    async def obey(self, document: twiml.Document) -> Outcome | Goto:
        """Carry out one document; returns where to go next, or how the call ended."""
        self._journal.note("twiml", ", ".join(_name(verb) for verb in document.verbs) or "empty")
        for warning in document.warnings:
            self._journal.warn(12200, warning)
        for verb in document.verbs:
            result = await self._perform(verb)
            if result is not None:
                return result
        return self._completed("end of the document")

    async def _perform(self, verb: twiml.Verb) -> Outcome | Goto | None:
        if isinstance(verb, twiml.Reject):
            self._journal.note("reject", verb.reason)
            return Outcome(OutcomeKind.REJECTED, verb.reason)
        if self.answered_s is None:
            # Twilio: anything but <Reject> as the first verb answers the call.
            self.answered_s = self._journal.now
            self._journal.note("answered")
        match verb:
            case twiml.Connect():
                return await self._connect(verb)
            case twiml.Redirect():
                return Goto(verb.url, verb.method)
            case twiml.Hangup():
                return self._completed("<Hangup/>")
            case twiml.Dial():
                return await self._dial(verb)
            case _:
                await self._act(verb)
                return None

    async def _act(self, verb: twiml.Say | twiml.Pause | twiml.Play | twiml.NotSimulated) -> None:
        match verb:
            case twiml.Say():
                await self._say(verb)
            case twiml.Pause():
                await self._pause(min(verb.length_s, _PAUSE_S_MAX))
            case twiml.Play():
                await self._play(verb)
            case twiml.NotSimulated():
                self._journal.note("not_simulated", f"<{verb.name}>")
            case _:
                assert_never(verb)

    async def _connect(self, verb: twiml.Connect) -> Goto | None:
        if verb.stream is not None:
            await self._carry(verb.stream)
        if verb.action:
            return Goto(verb.action, verb.method)
        return None

    async def _dial(self, verb: twiml.Dial) -> Outcome | Goto | None:
        self._journal.note("dial", verb.target)
        party = self._others.get(verb.target)
        if party is None:
            return Outcome(OutcomeKind.DIALLED, verb.target)
        result, talked_s = await self._reach(party, verb.timeout_s)
        self._journal.note("dial_ended", result)
        if not verb.action:
            return None
        parameters = {
            "DialCallStatus": result,
            "DialCallSid": new_sid("CA"),
            "DialCallDuration": str(round(talked_s)),
            "DialBridged": str(result == "completed").lower(),
        }
        return Goto(verb.action, verb.method, parameters)

    async def _reach(self, party: OtherParty, timeout_s: float) -> tuple[DialResult, float]:
        """Ring, and talk if somebody answers; returns how it ended and how long they talked."""
        await self._pause(min(party.ring_s, timeout_s))
        if party.result != "completed":
            return party.result, 0.0
        if party.ring_s > timeout_s:
            return "no-answer", 0.0
        self._journal.note("dial_answered", party.says)
        began_s = self._journal.now
        audio = await asyncio.to_thread(spoken, party.says, _OTHER_PARTY_VOICE)
        await self._line.announce(audio)
        await self._pause(max(0.0, began_s + party.talk_s - self._journal.now))
        return "completed", self._journal.now - began_s

    async def _carry(self, request: twiml.Stream) -> None:
        stream = MediaStream(
            request,
            webhooks=self._webhooks,
            line=self._line,
            journal=self._journal,
            lose_frames=self._lose_frames,
        )
        try:
            await stream.open()
        except StreamRefusedError as exc:
            self._journal.warn(exc.code, str(exc))
            return
        self.streams.append(stream)
        self.stream = stream
        self._watch.notify()
        try:
            end = await stream.run()
        finally:
            self.stream = None
            self._watch.notify()
        if end is StreamEnd.STOPPED:
            # By the caller hanging up, who also ends this task: wait for that.
            await asyncio.Event().wait()

    async def _say(self, verb: twiml.Say) -> None:
        self._journal.note("say", verb.text)
        self.said.append(verb.text)
        audio = await asyncio.to_thread(spoken, verb.text, _SAY_VOICE)
        for _ in range(min(verb.loop or _SAY_LOOPS_MAX, _SAY_LOOPS_MAX)):
            await self._line.announce(audio)

    async def _play(self, verb: twiml.Play) -> None:
        if verb.digits:
            self._journal.note("play_digits", verb.digits)
            await self._pause(sum(_DTMF_S.get(key, 0.0) for key in verb.digits))
        else:
            self._journal.note("not_simulated", f"<Play>{verb.url}</Play>")

    async def _pause(self, seconds: float) -> None:
        until_s = self._journal.now + seconds
        await self._watch.until(
            lambda: self._journal.now >= until_s,
            timeout_s=seconds + 10,  # the watch is asked 50 times a second, on a slow machine less
            what="a pause to end",
        )

    def _completed(self, reason: str) -> Outcome:
        if self.said and not self.streams:
            return Outcome(OutcomeKind.BUSY_SAID, reason)
        return Outcome(OutcomeKind.COMPLETED_BY_SERVER, reason)

    def _failed(self, reason: str) -> Outcome:
        return Outcome(OutcomeKind.FAILED, reason)


def spoken(text: str, voice: str) -> bytes:
    """Return a text as telephone audio."""
    return g711.encode(speech.speak(text, voice=voice, rate_hz=g711.SAMPLE_RATE))


def _name(verb: twiml.Verb) -> str:
    return verb.name if isinstance(verb, twiml.NotSimulated) else type(verb).__name__
