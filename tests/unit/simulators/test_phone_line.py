import pytest

from simulators import g711
from simulators.phone_journal import Journal
from simulators.phone_line import Line, Mouth
from simulators.playout import PlayoutBuffer
from simulators.watch import Watch
from tests.unit.simulators.voice_server import tone

pytestmark = pytest.mark.unit


def test_mouth_speaks_in_whole_frames_and_is_silent_in_between() -> None:
    mouth = Mouth()
    until = mouth.queue(b"a" * 200)
    frames = [mouth.frame(), mouth.frame()]
    assert frames == [b"a" * 160, b"a" * 40 + b"\xff" * 120]
    assert mouth.spoken_bytes == until
    assert not mouth.speaking
    assert mouth.frame() == b"\xff" * 160


def test_mouth_that_is_hushed_says_no_more() -> None:
    mouth = Mouth()
    mouth.queue(b"a" * 1600)
    mouth.frame()
    mouth.hush()
    assert not mouth.speaking
    assert mouth.frame() == b"\xff" * 160


def test_mouth_refuses_more_than_ten_minutes() -> None:
    with pytest.raises(ValueError, match="ten minutes"):
        Mouth().queue(bytes(600 * 8000 + 1))


def test_line_puts_both_voices_on_one_timeline() -> None:
    journal = Journal()
    line = Line(journal, Watch())
    player = PlayoutBuffer(now=0.0)
    frames: list[bytes] = []
    line.attach(player, on_frame=frames.append, on_played=lambda: None)
    line.mouth.queue(tone(40))
    player.queue(tone(60), now=0.02)
    for frame in range(60):
        line.tick(now=(frame + 1) * 0.02)
    assert line.recording.segments("said") == [(0, 40)]
    assert line.recording.segments("heard") == [(20, 80)]
    assert b"".join(frames) == g711.encode(line.recording.said)
    assert [(event.ms, event.kind) for event in journal.events] == [
        (0, "caller_starts"),
        (20, "first_audio"),
        (20, "agent_starts"),
        (40, "caller_stops"),
        (80, "agent_stops"),
    ]


def test_late_tick_loses_nothing() -> None:
    line = Line(Journal(), Watch())
    player = PlayoutBuffer(now=0.0)
    line.attach(player, on_frame=lambda _: None, on_played=lambda: None)
    player.queue(tone(400), now=0.0)
    for _ in range(20):
        line.tick(now=0.4)  # the machine slept, then all frames come at once
    assert line.recording.segments("heard") == [(0, 400)]


def test_detached_stream_is_not_heard_any_more() -> None:
    line = Line(Journal(), Watch())
    player = PlayoutBuffer(now=0.0)
    line.attach(player, on_frame=lambda _: None, on_played=lambda: None)
    player.queue(tone(400), now=0.0)
    line.tick(now=0.02)
    line.detach()
    line.tick(now=0.04)
    assert line.recording.segments("heard") == [(0, 20)]
