"""The baseline: phone and model joined in one process, without a broker, as lean as Python goes.

`python -m benchmarks.bare_relay --model URL` prints `{"port": ...}` and serves until its standard
input ends.

The same WebSocket libraries as the product (aiohttp for phones, websockets for the model), uvloop,
payloads cut out of the bytes instead of JSON, no decoding, no compression, one task a direction.
It has no rules at all: no marks, no barge-in, no story, no recovery; what the product costs more is
the price of those and of the broker between them.
"""

import argparse
import asyncio
import contextlib
import json
import socket
from typing import Any, Final, Literal

from aiohttp import WSMsgType, web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks import process

#: The model answers on loopback; a relay that waits longer has no model.
CONFIGURE_TIMEOUT_S: Final = 10.0

_MEDIA: Final = b'{"event":"media"'
_PAYLOAD: Final = b'"payload":"'
_DELTA: Final = b'{"type":"response.output_audio.delta"'
_DELTA_PAYLOAD: Final = b'"delta":"'
_APPEND: Final = b'{"type":"input_audio_buffer.append","audio":"'
_FORMAT: Final = {"format": {"type": "audio/pcmu"}}
_UPDATE: Final = json.dumps(
    {
        "type": "session.update",
        "session": {"type": "realtime", "audio": {"input": _FORMAT, "output": _FORMAT}},
    }
)

PhoneSocket = web.WebSocketResponse[Literal[False]]


class Relay:
    """All calls of the process."""

    def __init__(self, model_url: str) -> None:
        self._model_url = model_url

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One phone socket, from upgrade to end."""
        phone: PhoneSocket = web.WebSocketResponse(compress=False, decode_text=False)
        await phone.prepare(request)
        _no_delay(request.transport)
        stream = await _stream_of(phone)
        if stream is None:
            return phone
        async with connect(
            self._model_url, compression=None, ping_interval=20, close_timeout=1
        ) as model:
            _no_delay(model.transport)
            async with asyncio.timeout(CONFIGURE_TIMEOUT_S):
                await model.send(_UPDATE)
                while b'"session.updated"' not in (await model.recv(decode=False))[:64]:
                    pass
            down = asyncio.create_task(_down(model, phone, stream), name="down")
            try:
                await _up(phone, model)
            finally:
                down.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await down
        return phone


async def _stream_of(phone: PhoneSocket) -> str | None:
    """The stream's id from `start`; None if the phone leaves before it."""
    while (message := await phone.receive()).type is WSMsgType.TEXT:
        event: dict[str, Any] = json.loads(message.data)
        if event.get("event") == "start":
            return str(event["start"]["streamSid"])
    return None


async def _up(phone: PhoneSocket, model: ClientConnection) -> None:
    while (message := await phone.receive()).type is WSMsgType.TEXT:
        data: bytes = message.data
        if data.startswith(_MEDIA):
            start = data.find(_PAYLOAD) + len(_PAYLOAD)
            payload = data[start : data.find(b'"', start)]
            await model.send(b"".join((_APPEND, payload, b'"}')), text=True)


async def _down(model: ClientConnection, phone: PhoneSocket, stream: str) -> None:
    head = b'{"event":"media","streamSid":"%b","media":{"payload":"' % stream.encode()
    with contextlib.suppress(ConnectionClosed, ConnectionError):
        while True:
            data = await model.recv(decode=False)
            if data.startswith(_DELTA):
                start = data.find(_DELTA_PAYLOAD) + len(_DELTA_PAYLOAD)
                payload = data[start : data.find(b'"', start)]
                await phone.send_frame(b"".join((head, payload, b'"}}')), WSMsgType.TEXT)


def _no_delay(transport: asyncio.BaseTransport | None) -> None:
    """asyncio sets it by itself; a baseline must not depend on that."""
    if transport is not None and (sock := transport.get_extra_info("socket")) is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _main(model_url: str) -> None:
    app = web.Application()
    app.add_routes([web.get("/call", Relay(model_url).handle)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    await web.SockSite(runner, listener).start()
    process.say(port=listener.getsockname()[1])
    await process.input_ended()
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="ws:// URL of the model")
    process.run(_main(parser.parse_args().model))
