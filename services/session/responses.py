"""Which response runs, which we asked for, and whose late audio is dropped.

OpenAI: one active response a conversation; voice detection starts some by itself, so ours can be
refused; audio of a cancelled one may still arrive, and the next one may begin before the old one is
reported done.  All of it is told apart by id.

Pure: no I/O.
"""

import collections
from typing import Final

#: Responses whose late audio is dropped; a cancelled one is quiet after a second.
MUTED_LIMIT: Final = 16


class Responses:
    """The responses of one model session."""

    def __init__(self) -> None:
        self._active: str | None = None
        self._purposes: dict[str, str] = {}
        #: Our `response.create` that was not answered yet: (purpose, event id).
        self._asked: tuple[str, str] | None = None
        #: A response to ask for when the running one is done.
        self._wanted: str | None = None
        self._muted: collections.deque[str] = collections.deque(maxlen=MUTED_LIMIT)

    @property
    def busy(self) -> bool:
        """Whether a response runs, was asked for, or is wanted."""
        return self._active is not None or self._asked is not None or self._wanted is not None

    @property
    def running(self) -> bool:
        """Whether a response runs."""
        return self._active is not None

    def purpose(self, response: str) -> str:
        """What a running response is for; empty when voice detection started it."""
        return self._purposes.get(response, "")

    def may_ask(self, purpose: str) -> bool:
        """Whether to ask now.  If not, it is remembered for when the running one is done."""
        if self._active is None and self._asked is None:
            return True
        self._wanted = purpose
        return False

    def asked(self, purpose: str, event_id: str) -> None:
        """Our `response.create` was sent under this id."""
        self._asked = (purpose, event_id)

    def started(self, response: str, purpose: str) -> None:
        """A response runs.  With a purpose it is the one we asked for."""
        self._active = response
        self._purposes[response] = purpose
        if purpose:
            self._asked = None

    def put_off(self) -> None:
        """Ours was refused because another one runs: want it again afterwards."""
        if self._asked is not None:
            self._wanted, self._asked = self._asked[0], None

    def refused(self, event_id: str) -> str | None:
        """The purpose of the request that was sent under `event_id`, now refused; else None."""
        if self._asked is None or self._asked[1] != event_id:
            return None
        purpose, self._asked = self._asked[0], None
        return purpose

    def finished(self, response: str) -> bool:
        """A response is done.  False: a newer one runs already."""
        self._purposes.pop(response, None)
        if self._active is not None and self._active != response:
            return False
        self._active = None
        return True

    def take_wanted(self) -> str | None:
        """What was waiting for the running response to end."""
        wanted, self._wanted = self._wanted, None
        return wanted

    def mute_active(self) -> str | None:
        """Drop what the running response still sends.  Returns its id when newly muted."""
        if self._active is None or self._active in self._muted:
            return None
        self.mute(self._active)
        return self._active

    def mute(self, response: str) -> None:
        """Drop what this response still sends."""
        if response not in self._muted:
            self._muted.append(response)

    def is_muted(self, response: str) -> bool:
        """Whether audio of this response is dropped."""
        return response in self._muted
