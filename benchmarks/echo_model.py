"""A stand-in of the Realtime API that echoes: what the caller says comes back as the model's voice.

`python -m benchmarks.echo_model` prints `{"port": ...}` and serves until its standard input ends.

It accepts the formats it is asked for, greets with one frame of silence, and then answers every
`input_audio_buffer.append` at once with a `response.output_audio.delta` of the same base64, all
within one long response, a new item every `ITEM_FRAMES` appends.  Other events are ignored.
"""

import asyncio
import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

from benchmarks import process
from benchmarks.wire import ServerPeer, frame

#: Appends an item lasts: 10 s of 20 ms frames.
ITEM_FRAMES: Final = 500

_APPEND: Final = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_END: Final = b'"}'
_SILENT_FRAME: Final = base64.b64encode(b"\xff" * 160).decode()
_PCMU: Final = {"type": "audio/pcmu"}


class EchoSession(ServerPeer):
    """One model socket."""

    def __init__(self, numbers: Iterator[int]) -> None:
        super().__init__()
        self._numbers = numbers
        self._response = ""
        self._item = ""
        self._item_appends = 0
        self._delta_head = b""

    def opened(self) -> None:
        self._event("session.created", session={"type": "realtime", "id": self._new("sess")})

    def text(self, payload: bytes) -> None:
        if payload.startswith(_APPEND) and payload.endswith(_APPEND_END):
            self._echo(payload[len(_APPEND) : -len(_APPEND_END)])
            return
        try:
            event = json.loads(payload)
            kind = event["type"]
        except (ValueError, KeyError, TypeError):
            return
        if kind == "input_audio_buffer.append":
            self._echo(str(event["audio"]).encode())
        elif kind == "session.update":
            self._event("session.updated", session=_with_formats(event["session"]))
        elif kind == "response.create":
            self._greet(event.get("response") or {})

    def _echo(self, payload: bytes) -> None:
        if self._item_appends == 0:
            self._next_item()
        self._item_appends -= 1
        if self.transport is not None:
            delta = b"".join((self._delta_head, payload, b'"}'))
            self.transport.write(frame(delta, masked=False))

    def _next_item(self) -> None:
        if not self._response:
            self._response = self._new("resp")
            self._response_event("response.created", self._response, "in_progress", None)
        else:
            self._audio_done(self._response, self._item)
        self._item = self._new("item")
        self._item_appends = ITEM_FRAMES
        self._delta_head = (
            '{"type":"response.output_audio.delta","event_id":"event_echo",'
            f'"response_id":"{self._response}","item_id":"{self._item}",'
            '"output_index":0,"content_index":0,"delta":"'
        ).encode()

    def _greet(self, asked: dict[str, Any]) -> None:
        response, item, metadata = self._new("resp"), self._new("item"), asked.get("metadata")
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        self._response_event("response.created", response, "in_progress", metadata)
        self._event("response.output_audio.delta", **place, delta=_SILENT_FRAME)
        self._audio_done(response, item)
        self._response_event("response.done", response, "completed", metadata)

    def _audio_done(self, response: str, item: str) -> None:
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        self._event("response.output_audio.done", **place)

    def _response_event(self, kind: str, response: str, status: str, metadata: Any) -> None:
        body = {"id": response, "object": "realtime.response", "status": status, "output": []}
        self._event(kind, response={**body, "metadata": metadata, "usage": None})

    def _event(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": self._new("event"), **fields}
        self.send(json.dumps(event, separators=(",", ":")).encode())

    def _new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):08d}"


def _with_formats(asked: dict[str, Any]) -> dict[str, Any]:
    """The effective configuration: what was asked for; mu-law where nothing was."""
    audio = asked.get("audio") or {}
    sides = {side: {"format": _PCMU, **(audio.get(side) or {})} for side in ("input", "output")}
    return {**asked, "audio": sides}


async def _main() -> None:
    numbers = itertools.count(1)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: EchoSession(numbers), "127.0.0.1", 0, backlog=512)
    process.say(port=server.sockets[0].getsockname()[1])
    await process.input_ended()
    server.close()


if __name__ == "__main__":
    process.run(_main())
