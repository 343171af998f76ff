"""The conversation's items: in order, with what the server keeps beside them."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

from simulators.realtime.refusal import Refusal

__all__ = ["Conversation", "Entry"]

Json = dict[str, Any]

_ITEMS_MAX = 2000
"""Above any telephone call of an hour; the oldest goes first, as `truncation: "auto"` does."""

_AUDIO_KEPT_ITEMS = 8
"""How many of the newest caller items keep their audio for `conversation.item.retrieve`."""


@dataclasses.dataclass(eq=False)
class Entry:
    """An item, and what is known of it beyond its wire form."""

    item: Json
    """As sent: never with audio bytes. OpenAI: only retrieve echoes audio."""

    audio_ms: float = 0.0
    """Caller's audio in it, or the assistant's audio of it that was sent and not truncated."""

    audio: bytes = b""
    """The caller's audio in the session's input format, while kept."""

    turn: int | None = None
    """Which turn of the caller this is, from 0; `None` for everything else and for silence."""

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.item["id"])

    @property
    def role(self) -> str:
        """The role of a message; the type of any other item."""
        return str(self.item.get("role", self.item["type"]))

    @property
    def text(self) -> str:
        """All text and transcript in it."""
        parts = self.item.get("content", [])
        return "".join(part.get("text") or part.get("transcript") or "" for part in parts)


class Conversation:
    """An ordered list of entries with unique ids."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.has_assistant_audio = False
        """OpenAI: once true, the voice is fixed."""

        self.prefix_broken = False
        """An old item was changed or removed since the last look: the prompt cache is cold."""

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def last_id(self) -> str | None:
        """The id of the newest item."""
        return self._entries[-1].id if self._entries else None

    def get(self, item_id: str) -> Entry | None:
        """Return the entry with this id, if there is one."""
        return next((entry for entry in reversed(self._entries) if entry.id == item_id), None)

    def append(self, entry: Entry) -> str | None:
        """Add at the end; return the id of the item before it."""
        previous_id = self.last_id
        self._entries.append(entry)
        self._forget_old()
        return previous_id

    def insert(self, entry: Entry, previous_item_id: str | None) -> str | None:
        """Add where a client asked for; return the id of the item before it.

        OpenAI: absent appends, "root" puts it in front, an unknown id is an error and nothing
        is added. A function output must answer a known call.
        """
        if self.get(entry.id):
            message = f"Item with id '{entry.id}' already exists in the conversation."
            raise Refusal("item_already_exists", message, "item.id")
        if entry.item["type"] == "function_call_output":
            self._refuse_unknown_call(entry.item["call_id"])
        if previous_item_id is None:
            return self.append(entry)
        if previous_item_id == "root":
            index = 0
        else:
            before = self._known(previous_item_id, "previous_item_id", "create_invalid_previous")
            index = self._entries.index(before) + 1
        self.prefix_broken = self.prefix_broken or index < len(self._entries)
        self._entries.insert(index, entry)
        self._forget_old()
        return None if index == 0 else previous_item_id

    def retrieved(self, item_id: str, audio_base64: str | None = None) -> Json:
        """Return an item with its audio put back in."""
        item = copy.deepcopy(self._known(item_id, "item_id", "retrieve_invalid").item)
        for part in item.get("content", []):
            if part["type"] == "input_audio" and audio_base64 is not None:
                part["audio"] = audio_base64
        return item

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut an assistant's audio to what was heard."""
        entry = self._known(item_id, "item_id", "truncate_invalid")
        parts = entry.item.get("content", [])
        spoken = entry.role == "assistant" and (entry.audio_ms or _is_audio(parts, content_index))
        if not spoken:
            raise Refusal(None, "Only model output audio messages can be truncated")
        if content_index != 0:
            message = f"Content index {content_index} does not exist in item '{item_id}'."
            raise Refusal("invalid_value", message, "content_index")
        if audio_end_ms > entry.audio_ms:
            message = (
                f"Audio content of {int(entry.audio_ms)}ms is already shorter than {audio_end_ms}ms"
            )
            raise Refusal("invalid_value", message, "audio_end_ms")
        entry.audio_ms = audio_end_ms
        # OpenAI: the transcript goes too, and no cut transcript is given back.
        for part in parts:
            part["transcript"] = ""
        self.prefix_broken = True

    def delete(self, item_id: str) -> None:
        """Remove an item."""
        self._entries.remove(self._known(item_id, "item_id", "delete_invalid"))
        self.prefix_broken = True

    def _known(self, item_id: str, param: str, code: str) -> Entry:
        entry = self.get(item_id)
        if entry is None:
            message = f"Item with item_id '{item_id}' does not exist in the conversation."
            raise Refusal(f"item_{code}_item_id", message, param)
        return entry

    def _refuse_unknown_call(self, call_id: str) -> None:
        if not any(entry.item.get("call_id") == call_id for entry in self._calls()):
            message = f"Tool call ID '{call_id}' not found in conversation."
            raise Refusal("invalid_tool_call_id", message, "item.call_id")

    def _calls(self) -> Iterator[Entry]:
        return (entry for entry in self._entries if entry.item["type"] == "function_call")

    def _forget_old(self) -> None:
        with_audio = [entry for entry in self._entries if entry.audio]
        for entry in with_audio[:-_AUDIO_KEPT_ITEMS]:
            entry.audio = b""
        if len(self._entries) > _ITEMS_MAX:
            del self._entries[0]
            self.prefix_broken = True


def _is_audio(parts: list[Json], content_index: int) -> bool:
    return content_index < len(parts) and parts[content_index]["type"] == "output_audio"
