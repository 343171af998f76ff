"""The agent's voice on its way to the phone: played, heard, cut off, and written down.

Pure: no I/O; `now` is in seconds.
"""

from collections.abc import Sequence
from typing import Final

from services.session import events, realtime
from services.session.desk import Desk, milliseconds
from services.session.history import History
from services.session.ledger import Ledger
from services.session.turns import Turns
from shared import messages
from shared.audio import FORMATS

#: A mark comes back a round trip after the phone has played what is before it.
MARK_GRACE_S: Final = 1.0


class Voice:
    """One call's."""

    def __init__(self, desk: Desk, history: History, turns: Turns, *, greeted: bool) -> None:
        """`greeted`: no greeting is wanted."""
        self._desk = desk
        self._history = history
        self._turns = turns
        self._ledger = Ledger(FORMATS[desk.record.audio])
        #: Items of this model session that were played, and the response each belongs to.
        self._items: dict[str, str] = {}
        #: The greeting was heard, at least its beginning; or none is wanted.
        self.greeted = greeted
        #: The response that runs, or ran last, was heard at least in part.
        self.said_something = False
        #: Since when the phone listens, for the first time.
        self.listened_since: float | None = None

    def forget_session(self, now: float) -> None:
        """The model's socket is gone: no more comes of what it began, which is still heard."""
        for item in self._items:
            self._send(self._ledger.complete(item, now))
        self._items = {}

    # --- playing ----------------------------------------------------------------------------

    def play(self, event: events.AudioReceived, now: float) -> None:
        """The next audio of an item; the phone listens."""
        self.said_something = True
        if event.item not in self._items:
            self._items[event.item] = event.response
            self._history.turn(event.item, "agent").heard = 1.0
            self._begun(event, now)
        self._send(self._ledger.play(event.item, event.audio, now))

    def _begun(self, event: events.AudioReceived, now: float) -> None:
        after, since = "other", None
        # Whatever the agent says first is its greeting: nobody is greeted in mid-talk.
        self.greeted = True
        if self._turns.responses.purpose(event.response) == "greeting":
            after, since = "greeting", self.listened_since
        elif self._turns.speech_ended_at is not None:
            after, since = "caller", self._turns.speech_ended_at
        self._turns.speech_ended_at = None
        self._desk.tell(
            messages.AgentStartedSpeaking,
            now,
            item=event.item,
            after=after,
            latency_ms=milliseconds(now - since) if since is not None else None,
        )

    def _send(self, pieces: Sequence[bytes | str]) -> None:
        for piece in pieces:
            self._desk.out.append(
                events.PlayMark(piece) if isinstance(piece, str) else events.PlayAudio(piece)
            )

    def completed(self, response: str, item: str, now: float) -> None:
        """All audio of this item was generated."""
        if not self._turns.responses.is_muted(response):
            self._send(self._ledger.complete(item, now))

    def response_started(self) -> None:
        """The agent may say something; it has not yet."""
        self.said_something = False

    def response_finished(self, response: str, now: float) -> bool:
        """All its items are complete.  Returns whether any was played."""
        items = [item for item, owner in self._items.items() if owner == response]
        for item in items:
            self.completed(response, item, now)
        return bool(items)

    # --- hearing ----------------------------------------------------------------------------

    def mark_returned(self, name: str, now: float) -> None:
        """The phone has played everything before this mark, or a `clear` returned it."""
        for item, heard_ms in self._ledger.returned(name, now):
            self._desk.tell(messages.AgentFinishedSpeaking, now, item=item, heard_ms=heard_ms)

    def unheard(self, now: float) -> bool:
        """Whether the phone still has something to play, by the clock."""
        return self._ledger.unheard(now)

    def unheard_s(self, now: float) -> float:
        """How long the phone still has to play, by the clock."""
        return self._ledger.unheard_ms(now) / 1000

    def told_heard(self, now: float) -> bool:
        """Whether the phone itself said that it has played everything."""
        return self._ledger.told_heard(now, MARK_GRACE_S)

    def said(self, event: events.AgentTranscript, now: float) -> None:
        """The words; told when they are all there, as far as they were heard."""
        turn = self._history.turn(event.item, "agent")
        if not event.final:
            turn.text += event.text
            return
        turn.text, turn.final = event.text, True
        if event.item not in self._items:
            turn.heard = 0.0  # interrupted before its first audio
        if turn.heard_text:
            self._desk.tell(
                messages.Transcript,
                now,
                who="agent",
                text=turn.heard_text,
                item=event.item,
                interrupted=turn.heard < 1,
            )

    # --- cutting ----------------------------------------------------------------------------

    def clear(self, now: float, *, in_session: bool) -> None:
        """The caller speaks: nobody but us clears the phone and cuts to what was heard."""
        if self._ledger.unheard(now):
            self._desk.out.append(events.PlayClear())
            self.cut(now, in_session=in_session)

    def cut(self, now: float, *, in_session: bool) -> None:
        """What is queued is not heard any more.  `in_session`: the model can be told."""
        for cut in self._ledger.interrupt(now):
            turn = self._history.turn(cut.item, "agent")
            turn.heard = cut.heard_ms / cut.sent_ms if cut.sent_ms else 0.0
            if in_session and cut.item in self._items:
                self._turns.responses.mute(self._items[cut.item])
                self._desk.send(realtime.truncate(cut.item, cut.heard_ms))
            self._desk.tell(
                messages.Interrupted,
                now,
                item=cut.item,
                heard_ms=cut.heard_ms,
                sent_ms=cut.sent_ms,
                text=turn.heard_text if turn.final else "",
            )
