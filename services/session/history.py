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


@dataclass(slots=True)
class ToolTurn:
    """A function call of the model, and its output once there is one."""

    call_id: str
    name: str
    arguments: str
    output: str | None = None


class History:
    """The turns of one call, oldest first."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn | ToolTurn] = {}

    def tool(self, call_id: str, name: str, arguments: str) -> None:
        """The model called a function."""
        self._add(f"call {call_id}", ToolTurn(call_id, name, arguments))

    def tool_answered(self, call_id: str, output: str) -> None:
        """It was given this output."""
        turn = self._turns.get(f"call {call_id}")
        if isinstance(turn, ToolTurn):
            turn.output = output

    def _add(self, key: str, turn: Turn | ToolTurn) -> None:
        self._turns[key] = turn
        if len(self._turns) > KEEP_TURNS:
            del self._turns[next(iter(self._turns))]

    def turn(self, item: str, who: Literal["caller", "agent"]) -> Turn:
        """The turn of `item`, begun now if it is new."""
        found = self._turns.get(item)
        if not isinstance(found, Turn):
            found = Turn(item, who)
            self._add(item, found)
        return found

    def unanswered(self) -> bool:
        """Whether the caller spoke last, or the model was about to use a tool's output.

        A tool that still runs is nothing to speak about; its output will be.
        """
        last = next(reversed(self._turns.values()), None)
        if isinstance(last, ToolTurn):
            return last.output is not None
        return last is not None and last.who == "caller"

    def replay(self) -> list[tuple[Literal["user", "assistant"], str] | ToolTurn]:
        """What was said and heard, as (role, text), and function calls; oldest first.

        At most `REPLAY_TURNS`, the newest, and every function call whose output is to come:
        OpenAI refuses an output without its call.
        """
        found: list[tuple[Literal["user", "assistant"], str] | ToolTurn] = []
        for turn in self._turns.values():
            if isinstance(turn, ToolTurn):
                found.append(turn)
            elif text := turn.heard_text.strip():
                found.append(("user" if turn.who == "caller" else "assistant", text))
        old, new = found[:-REPLAY_TURNS], found[-REPLAY_TURNS:]
        pending = [one for one in old if isinstance(one, ToolTurn) and one.output is None]
        return [*pending, *new]
