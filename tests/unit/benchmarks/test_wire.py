"""The benchmark's own WebSocket, against itself and against a library."""

import asyncio
import itertools
import json
from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings, strategies as st
from websockets.asyncio.client import connect

from benchmarks import wire
from benchmarks.echo_model import ITEM_FRAMES, EchoSession
from benchmarks.phones import FRAME_BYTES, Tally, stamped, stamps_in
from benchmarks.wire import Frames, WireError, frame

pytestmark = pytest.mark.unit

SMALL = [0, 1, 125, 126, 300]
LARGE = [65535, 65536, 70000]


@settings(deadline=None)  # on a machine that may be busy
@given(
    st.one_of(
        st.tuples(st.lists(st.sampled_from(SMALL), max_size=5), st.integers(1, 300)),
        st.tuples(st.lists(st.sampled_from(LARGE), max_size=3), st.integers(1000, 70000)),
    ),
    st.booleans(),
)
def test_frames_come_out_as_they_went_in(case: tuple[list[int], int], masked: bool) -> None:
    sizes, cut = case
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    stream = b"".join(frame(payload, masked=masked) for payload in payloads)
    frames, out = Frames(), []
    for at in range(0, len(stream), cut):
        out += frames.feed(stream[at : at + cut])
    assert out == [(wire.TEXT, payload) for payload in payloads]


def test_a_real_mask_is_taken_off() -> None:
    key, payload = b"\x01\x02\x03\x04", b"hello"
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    assert Frames().feed(b"\x81\x85" + key + masked) == [(wire.TEXT, payload)]


@pytest.mark.parametrize("data", [b"\x01\x00", b"\x81\x7f" + (1 << 40).to_bytes(8, "big")])
def test_pieces_and_giants_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Frames().feed(data)


def test_a_frame_carries_the_time_it_was_sent() -> None:
    assert stamps_in(stamped(123_456_789_000)) == [123_456_789_000]


def test_several_frames_in_one_message_are_told_apart_and_silence_is_ignored() -> None:
    audio = b64decode(stamped(1)) + b"\xff" * FRAME_BYTES + b64decode(stamped(2))
    assert stamps_in(b64encode(audio)) == [1, 2]


def test_only_the_window_is_counted() -> None:
    tally = Tally()
    tally.measure(100, 200)
    for sent in (99, 100, 199, 200):
        tally.note_sent(sent, sent - 5)
        tally.note_back(sent, sent + 1_000_000)
    result = tally.result()
    assert (result["sent"], result["lost"], result["late"]) == (2, 0, 0)
    assert tally.lateness_ns == [5, 5]


def test_lost_and_late_frames_are_counted() -> None:
    tally = Tally()
    tally.measure(0, 1000)
    for sent in (1, 2, 3):
        tally.note_sent(sent, sent)
    tally.note_back(1, 200_000_000)
    result = tally.result()
    assert (result["lost"], result["late"]) == (2, 1)


async def test_the_echoing_model_speaks_as_the_real_one() -> None:
    loop = asyncio.get_running_loop()
    numbers = itertools.count(1)
    server = await loop.create_server(lambda: EchoSession(numbers), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(10), connect(f"ws://127.0.0.1:{port}/?model=x") as socket:

            async def heard() -> dict[str, object]:
                event: dict[str, object] = json.loads(await socket.recv())
                return event

            assert (await heard())["type"] == "session.created"
            pcm = {"format": {"type": "audio/pcm", "rate": 24000}}
            audio = {"input": pcm, "output": {"voice": "marin"}}
            await socket.send(json.dumps({"type": "session.update", "session": {"audio": audio}}))
            updated = await heard()
            session = updated["session"]
            assert isinstance(session, dict)
            assert session["audio"]["input"]["format"] == pcm["format"]
            assert session["audio"]["output"]["format"] == {"type": "audio/pcmu"}

            asked = {"metadata": {"purpose": "greeting"}}
            await socket.send(json.dumps({"type": "response.create", "response": asked}))
            greeting = [await heard() for _ in range(4)]
            assert [event["type"] for event in greeting] == [
                "response.created",
                "response.output_audio.delta",
                "response.output_audio.done",
                "response.done",
            ]

            append = {"type": "input_audio_buffer.append", "audio": "AAECAw=="}
            await socket.send(json.dumps(append))  # with blanks: not the usual shape
            created, delta = await heard(), await heard()
            assert created["type"] == "response.created"
            assert delta["delta"] == "AAECAw=="
            usual = json.dumps(append, separators=(",", ":"))
            for _ in range(ITEM_FRAMES):
                await socket.send(usual)
            rest = [await heard() for _ in range(ITEM_FRAMES + 1)]
            assert rest[-2]["type"] == "response.output_audio.done"
            assert rest[-2]["item_id"] == delta["item_id"]
            assert rest[-1]["item_id"] != delta["item_id"]
            assert rest[-1]["response_id"] == delta["response_id"]
    finally:
        server.close()
        await server.wait_closed()
