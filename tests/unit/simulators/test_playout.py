from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from simulators.playout import LIMIT_BYTES, PlayoutBuffer

pytestmark = pytest.mark.unit


def test_audio_is_played_at_eight_bytes_a_millisecond() -> None:
    buffer = PlayoutBuffer(now=1.0)
    buffer.queue(bytes(800), now=1.0)
    buffer.advance(now=1.05)
    assert (buffer.played_bytes, buffer.pending_bytes) == (400, 400)
    assert buffer.take_audio() == [(8000, bytes(400))]


def test_silence_between_two_utterances_is_a_gap_on_the_timeline() -> None:
    buffer = PlayoutBuffer(now=0.0)
    buffer.queue(b"a" * 80, now=0.0)
    buffer.queue(b"b" * 80, now=0.1)
    buffer.advance(now=0.2)
    assert buffer.take_audio() == [(0, b"a" * 80), (800, b"b" * 80)]


def test_mark_comes_back_when_what_is_before_it_was_played() -> None:
    buffer = PlayoutBuffer(now=0.0)
    buffer.queue(bytes(80), now=0.0)
    buffer.mark("first", now=0.0)
    buffer.queue(bytes(80), now=0.0)
    buffer.mark("second", now=0.0)
    buffer.advance(now=0.0099)
    assert buffer.take_marks() == []
    buffer.advance(now=0.5)
    first, second = buffer.take_marks()
    assert (first.name, first.played_ms, first.cleared) == ("first", 10.0, False)
    assert (second.name, second.played_ms, second.cleared) == ("second", 20.0, False)


def test_mark_in_an_empty_buffer_comes_back_at_once() -> None:
    buffer = PlayoutBuffer(now=0.0)
    buffer.mark("now", now=2.0)
    assert [(mark.name, mark.played_ms) for mark in buffer.take_marks()] == [("now", 2000.0)]


def test_clear_drops_what_is_left_and_returns_every_mark() -> None:
    buffer = PlayoutBuffer(now=0.0)
    buffer.queue(bytes(8000), now=0.0)
    buffer.mark("middle", now=0.0)
    buffer.queue(bytes(8000), now=0.0)
    buffer.mark("end", now=0.0)
    clear = buffer.clear(now=0.25)
    assert (clear.at_ms, clear.played_bytes, clear.dropped_bytes) == (250.0, 2000, 14000)
    assert clear.marks == ("middle", "end")
    assert all(mark.cleared and mark.played_ms is None for mark in buffer.take_marks())
    assert buffer.pending_bytes == 0


def test_clear_says_how_much_of_the_interrupted_answer_was_heard() -> None:
    buffer = PlayoutBuffer(now=0.0)
    buffer.queue(bytes(800), now=0.0)  # an earlier answer, heard in full
    buffer.queue(bytes(8000), now=1.0)
    clear = buffer.clear(now=1.5)
    assert (clear.played_bytes, clear.played_since_empty_bytes) == (4800, 4000)


def test_more_than_ten_minutes_is_refused() -> None:
    buffer = PlayoutBuffer(now=0.0)
    assert buffer.queue(bytes(LIMIT_BYTES), now=0.0) == 0
    assert buffer.queue(bytes(160), now=0.0) == 160
    assert (buffer.queued_bytes, buffer.refused_bytes) == (LIMIT_BYTES, 160)
    assert buffer.queue(bytes(160), now=0.02) == 0


@dataclass
class Media:
    size: int


@dataclass
class Mark:
    pass


@dataclass
class Clear:
    pass


_steps = st.lists(
    st.tuples(
        st.integers(0, 60).map(lambda ms: ms / 1000),
        st.one_of(st.integers(0, 2000).map(Media), st.builds(Mark), st.builds(Clear), st.none()),
    ),
    max_size=60,
)


@given(_steps)
def test_buffer_keeps_its_promises_whatever_is_sent(
    steps: list[tuple[float, Media | Mark | Clear | None]],
) -> None:
    """FIFO; marks in order, never before their audio; nothing lost and nothing made up."""
    now, counter = 0.0, 0
    buffer = PlayoutBuffer(now=0.0)
    expected = bytearray()  # what must be played: all that was queued, less what was cleared
    played = bytearray()
    due: dict[str, int] = {}
    sent: list[str] = []
    returned: list[str] = []
    end_of_last = 0

    for elapsed, step in steps:
        now += elapsed
        match step:
            case Media(size):
                audio = bytes((counter + index) % 256 for index in range(size))
                counter += size
                buffer.queue(audio, now)
                expected += audio
            case Mark():
                name = str(len(sent))
                sent.append(name)
                due[name] = len(expected)
                buffer.mark(name, now)
            case Clear():
                clear = buffer.clear(now)
                del expected[len(expected) - clear.dropped_bytes :]
                assert buffer.pending_bytes == buffer.waiting_marks == 0
            case None:
                buffer.advance(now)
        for position, audio in buffer.take_audio():
            assert position >= end_of_last
            end_of_last = position + len(audio)
            assert end_of_last <= round(now * 8000)  # never ahead of time
            played += audio
        for mark in buffer.take_marks():
            returned.append(mark.name)
            if not mark.cleared:
                assert len(played) >= due[mark.name]
                assert mark.played_ms is not None
                assert mark.queued_ms <= mark.played_ms <= round(now * 8000) / 8
        assert (
            buffer.played_bytes + buffer.dropped_bytes + buffer.pending_bytes == buffer.queued_bytes
        )
        assert played == expected[: len(played)]
        assert len(played) == buffer.played_bytes

    buffer.advance(now + 1000)
    returned += [mark.name for mark in buffer.take_marks()]
    assert returned == sent
    assert buffer.pending_bytes == 0
