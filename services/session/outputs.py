"""Outputs of function calls that no response has used yet.

OpenAI: nothing is said about an output without a `response.create`, and voice detection starts
responses by itself: such a one has an output only if it came first.  The service tells when an
output has entered its conversation, in order with the beginnings of responses; so it is known
which of them a response has, also when both cross on the wire.

Pure: no I/O.
"""

import enum
from collections.abc import Collection


class _Stage(enum.Enum):
    #: On its way to the service, or kept for its next session.
    GIVEN = enum.auto()
    #: A response was asked for behind it.
    ASKED = enum.auto()
    #: The service has it.
    TAKEN = enum.auto()


class Outputs:
    """Those of one call; bounded by the function calls that one response makes."""

    def __init__(self) -> None:
        #: Call id -> (the response that made the call, how far the output has come).
        self._unused: dict[str, tuple[str, _Stage]] = {}

    def given(self, call_id: str, response: str) -> None:
        """An output was sent, or will be with the history."""
        self._unused[call_id] = (response, _Stage.GIVEN)

    def taken(self, call_id: str) -> None:
        """The service has it in its conversation."""
        if call_id in self._unused:
            self._unused[call_id] = (self._unused[call_id][0], _Stage.TAKEN)

    def asked(self) -> None:
        """We asked for a response: it will have what was sent before."""
        for call_id, (response, stage) in self._unused.items():
            if stage is _Stage.GIVEN:
                self._unused[call_id] = (response, _Stage.ASKED)

    def used(self, *, ours: bool) -> None:
        """A response began: the one we asked for, or one that voice detection started."""
        gone = {_Stage.TAKEN, _Stage.ASKED} if ours else {_Stage.TAKEN}
        self._unused = {call_id: one for call_id, one in self._unused.items() if one[1] not in gone}

    def session_lost(self) -> None:
        """The next session gets them with the history; it has none yet."""
        for call_id, (response, _) in self._unused.items():
            self._unused[call_id] = (response, _Stage.GIVEN)

    def due(self, awaited: Collection[str]) -> bool:
        """Whether to ask for a response; not about one of which further outputs are awaited."""
        return any(response not in awaited for response, _ in self._unused.values())
