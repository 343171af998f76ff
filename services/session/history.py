"""What was said in a call, in order: enough to tell a new model session where we are.

OpenAI: there is no resume; a new socket is an empty session.  The caller's side is replayed as
transcript text, the agent's as the text of what was *heard*.

Pure: no I/O.
"""

from dataclasses import dataclass
from typing import Final, Literal

#: Turns replayed to a new session: the last ones matter, and each costs tokens.
REPLAY_TURNS: Final = 60
#: Turns kept at all: an hour of quick exchanges.
KEEP_TURNS: Final = 500


@dataclass(slots=True)
class Turn:
    """One item of either side.  `heard` is the heard share, 0 to 1, of an agent's item."""

    item: str
    who: Literal["caller", "agent"]
    text: str = ""
    heard: float = 1.0
    #: The text is the whole, not a piece of a running transcript.
    final: bool = False

    @property
    def heard_text(self) -> str:
        """The text in proportion to what was heard, cut at a word.

        OpenAI deletes the transcript of a truncated item and gives no cut one back.
        """
        if self.heard >= 1:
            return self.text
        cut = self.text[: round(len(self.text) * self.heard)]
        if len(cut) < len(self.text) and not self.text[len(cut)].isspace():
            cut = cut.rpartition(" ")[0]
        return cut.rstrip()


class History:
    """The turns of one call, oldest first."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}

    def turn(self, item: str, who: Literal["caller", "agent"]) -> Turn:
        """The turn of `item`, begun now if it is new."""
        found = self._turns.get(item)
        if found is None:
            found = self._turns[item] = Turn(item, who)
            if len(self._turns) > KEEP_TURNS:
                del self._turns[next(iter(self._turns))]
        return found

    def unanswered(self) -> bool:
        """Whether the caller spoke last."""
        last = next(reversed(self._turns.values()), None)
        return last is not None and last.who == "caller"

    def replay(self) -> list[tuple[Literal["user", "assistant"], str]]:
        """(role, text) of what was said and heard, oldest first, at most `REPLAY_TURNS`."""
        said: list[tuple[Literal["user", "assistant"], str]] = []
        for turn in self._turns.values():
            text = turn.heard_text.strip()
            if text:
                said.append(("user" if turn.who == "caller" else "assistant", text))
        return said[-REPLAY_TURNS:]
