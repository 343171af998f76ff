"""Simulated phones: many Media Streams from one process, and the round trip of every frame.

`python -m benchmarks.phones --url ws://HOST:PORT/call --calls N` connects N phones, starts sending,
and prints `{"ready": ...}` when each has heard itself.  A line `{"from_ns": ..., "to_ns": ...}` on
its standard input (of the monotonic clock) makes it measure the frames sent between the two and
print `{"result": ...}`.  It hangs up when its input ends.

Every phone sends a 20 ms frame of mu-law on an absolute schedule, the phones spread evenly over the
20 ms, so a frame that goes out late makes no later one late.  A frame's first eight bytes are the
time it was sent.  Marks are returned at once, as a phone with nothing left to play would.
"""

import argparse
import asyncio
import base64
import binascii
import dataclasses
import json
import time
from typing import Final
from urllib.parse import urlsplit

from benchmarks import process
from benchmarks.measures import spread_of
from benchmarks.wire import ClientPeer

FRAME_NS: Final = 20_000_000
FRAME_BYTES: Final = 160
#: The sender sleeps at least this long: the resolution of the event loop's timers.
TICK_S: Final = 0.001
#: A frame that is back only after this much counts as late: five frames' time.
LATE_MS: Final = 100.0
#: How long after the end of the measurement a frame may still come back before it is lost.
STRAGGLERS_S: Final = 1.0
#: Phones that connect side by side.
CONNECT_AT_ONCE: Final = 10
#: Until every phone is connected, and until every phone has heard itself.
CONNECT_TIMEOUT_S: Final = 30.0
HEARD_TIMEOUT_S: Final = 20.0
#: After the last message, so that it goes out.
HANG_UP_S: Final = 0.1

#: 8 bytes of time and one of filling are 12 characters of base64 without padding.
_TIME_CHARS: Final = 12
_REST: Final = base64.b64encode(b"\xd5" * (FRAME_BYTES - 9))
_PAYLOAD: Final = b'"payload":"'
_FRAME_CHARS: Final = len(base64.b64encode(bytes(FRAME_BYTES)))
#: Times of the monotonic clock begin with zeros for the next 2000 years; silence does not.
_TIME_LIMIT_NS: Final = 1 << 56


def stamped(now_ns: int) -> bytes:
    """The base64 of a frame sent at `now_ns`."""
    return binascii.b2a_base64(now_ns.to_bytes(8, "big") + b"\xd5", newline=False) + _REST


def stamps_in(payload: bytes) -> list[int]:
    """The times in audio that came back: of one frame, or of several in one message."""
    if len(payload) == _FRAME_CHARS:
        times = [int.from_bytes(binascii.a2b_base64(payload[:_TIME_CHARS])[:8], "big")]
    else:
        audio = binascii.a2b_base64(payload)
        times = [
            int.from_bytes(audio[at : at + 8], "big")
            for at in range(0, len(audio) - FRAME_BYTES + 1, FRAME_BYTES)
        ]
    return [stamp for stamp in times if stamp < _TIME_LIMIT_NS]


class Tally:
    """What all phones count together, within one window of sending times."""

    def __init__(self) -> None:
        self.from_ns = self.to_ns = 0
        self.sent = 0
        self.disordered = 0
        self.round_trips_ns: list[int] = []
        self.lateness_ns: list[int] = []

    def measure(self, from_ns: int, to_ns: int) -> None:
        """Count the frames sent from now on, within the window."""
        self.from_ns, self.to_ns = from_ns, to_ns

    def note_sent(self, now_ns: int, due_ns: int) -> None:
        """A frame goes out."""
        if self.from_ns <= now_ns < self.to_ns:
            self.sent += 1
            self.lateness_ns.append(now_ns - due_ns)

    def note_back(self, sent_ns: int, now_ns: int) -> None:
        """A frame is back."""
        if self.from_ns <= sent_ns < self.to_ns:
            self.round_trips_ns.append(now_ns - sent_ns)

    def result(self) -> dict[str, object]:
        """The figures, in milliseconds."""
        trips = spread_of(one / 1e6 for one in self.round_trips_ns)
        lateness = spread_of(max(0, one) / 1e6 for one in self.lateness_ns)
        return {
            "sent": self.sent,
            "lost": self.sent - len(self.round_trips_ns),
            "late": sum(1 for one in self.round_trips_ns if one > LATE_MS * 1e6),
            "disordered": self.disordered,
            "round_trip_ms": dataclasses.asdict(trips) if trips else None,
            "lateness_ms": dataclasses.asdict(lateness) if lateness else None,
        }


class Phone(ClientPeer):
    """One phone with its stream."""

    def __init__(self, host: str, path: str, number: int, tally: Tally) -> None:
        super().__init__(host, path)
        self._tally = tally
        # Unique for this run, and in the shape of Twilio's.
        identity = f"{time.monotonic_ns() & 0xFFFFFFFFFFFF:024x}{number:08x}"
        self._call = f"CA{identity}"
        self._stream = f"MZ{identity}"
        self._tail = b'"},"streamSid":"%b"}' % self._stream.encode()
        self._sequence = 1
        self._chunk = 0
        self._last_back = 0
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        #: Done when it has heard itself for the first time.
        self.heard: asyncio.Future[None] = loop.create_future()
        #: Why the socket was closed before we hung up.
        self.lost: str | None = None

    def opened(self) -> None:
        start = {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": self._stream,
            "start": {
                "accountSid": "AC" + "0" * 32,
                "streamSid": self._stream,
                "callSid": self._call,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {},
            },
        }
        self.send(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        self.send(json.dumps(start, separators=(",", ":")).encode())
        if not self.connected.done():
            self.connected.set_result(None)

    def send_frame(self, due_ns: int) -> None:
        """Send the next 20 ms, due at `due_ns`."""
        self._sequence += 1
        self._chunk += 1
        head = (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d",'
            b'"timestamp":"%d","payload":"'
        ) % (self._sequence, self._chunk, 100 + 20 * self._chunk)
        now_ns = time.monotonic_ns()
        self._tally.note_sent(now_ns, due_ns)
        self.send(b"".join((head, stamped(now_ns), self._tail)))

    def text(self, payload: bytes) -> None:
        if payload.startswith(b'{"event":"media"'):
            now_ns = time.monotonic_ns()
            start = payload.find(_PAYLOAD) + len(_PAYLOAD)
            for stamp in stamps_in(payload[start : payload.find(b'"', start)]):
                if not self.heard.done():
                    self.heard.set_result(None)
                if stamp <= self._last_back:
                    self._tally.disordered += 1
                self._last_back = stamp
                self._tally.note_back(stamp, now_ns)
        elif payload.startswith(b'{"event":"mark"'):
            self._sequence += 1
            name = json.loads(payload)["mark"]
            mark = {"event": "mark", "sequenceNumber": str(self._sequence), "mark": name}
            self.send(json.dumps({**mark, "streamSid": self._stream}).encode())

    def closed(self, why: str) -> None:
        self.lost = why
        for waited in (self.connected, self.heard):
            if not waited.done():
                waited.set_exception(ConnectionError(why))
                waited.exception()  # read: nobody may be waiting

    def hang_up(self) -> None:
        """Twilio says `stop`, then closes."""
        stop = {"event": "stop", "sequenceNumber": str(self._sequence + 1)}
        ids = {"accountSid": "AC" + "0" * 32, "callSid": self._call}
        self.send(json.dumps({**stop, "streamSid": self._stream, "stop": ids}).encode())
        self.close()


class Sender:
    """Sends every phone's frames on time: frame k of all is due k/N of 20 ms after the start."""

    def __init__(self, phones: list[Phone]) -> None:
        self._phones = phones
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._start_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """From now on."""
        self._start_ns = time.monotonic_ns()
        self._tick()

    def stop(self) -> None:
        """No more frames."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        count = len(self._phones)
        now_ns = time.monotonic_ns()
        while (due_ns := self._start_ns + self._next * FRAME_NS // count) <= now_ns:
            self._phones[self._next % count].send_frame(due_ns)
            self._next += 1
        wait_s = (due_ns - time.monotonic_ns()) / 1e9
        self._timer = self._loop.call_later(max(TICK_S, wait_s), self._tick)


async def _connect(url: str, calls: int, tally: Tally) -> list[Phone]:
    """All phones, connected and started.  Raises `OSError` or `TimeoutError`."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def one(number: int) -> Phone:
        async with gate:
            _, phone = await loop.create_connection(
                lambda: Phone(parts.netloc, parts.path, number, tally),
                parts.hostname or "127.0.0.1",
                parts.port or 80,
            )
            await phone.connected
            return phone

    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return list(await asyncio.gather(*(one(number) for number in range(calls))))


async def _session(phones: list[Phone], tally: Tally) -> None:
    """From the first frame to the result."""
    try:
        async with asyncio.timeout(HEARD_TIMEOUT_S):
            await asyncio.gather(*(phone.heard for phone in phones))
    except (TimeoutError, ConnectionError) as error:
        deaf = sum(1 for phone in phones if phone.lost or phone.heard.cancelled())
        process.say(failed=f"{deaf} of {len(phones)} phones did not hear themselves: {error!r}")
        return
    process.say(ready={"calls": len(phones)})
    commands = await process.listen()
    while line := await commands.readline():
        window = json.loads(line)
        tally.measure(window["from_ns"], window["to_ns"])
        end_ns = window["to_ns"] + int(STRAGGLERS_S * 1e9)
        await asyncio.sleep(max(0, end_ns - time.monotonic_ns()) / 1e9)
        lost = sorted({phone.lost for phone in phones if phone.lost})
        process.say(result={**tally.result(), "dropped_calls": lost})


async def _main(url: str, calls: int) -> None:
    tally = Tally()
    try:
        phones = await _connect(url, calls, tally)
    except (OSError, TimeoutError) as error:
        process.say(failed=f"the phones could not connect: {error!r}")
        return
    sender = Sender(phones)
    sender.start()
    try:
        await _session(phones, tally)
    finally:
        sender.stop()
        live = [phone for phone in phones if not phone.lost]
        for phone in live:
            phone.hang_up()
        if live:
            await asyncio.sleep(HANG_UP_S)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="ws:// URL of the phone side")
    parser.add_argument("--calls", type=int, required=True, help="how many phones")
    arguments = parser.parse_args()
    process.run(_main(arguments.url, arguments.calls))


if __name__ == "__main__":
    main()
