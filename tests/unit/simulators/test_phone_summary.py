import pytest

from simulators.phone_summary import BargeIn, judge
from simulators.recording import Recording
from tests.unit.simulators.voice_server import tone

pytestmark = pytest.mark.unit


def _recording(said: list[tuple[int, int]], heard: list[tuple[int, int]]) -> Recording:
    recording = Recording()
    for start, end in said:
        recording.write_said(start * 8, tone(end - start))
    for start, end in heard:
        recording.write_heard(start * 8, tone(end - start))
    return recording


def test_silent_call_has_no_numbers() -> None:
    judgement = judge(Recording(), stream_began_ms=None)
    assert judgement.time_to_first_audio_ms is None
    assert judgement.reply_latencies_ms == []


def test_replies_are_timed_from_the_end_of_what_was_said() -> None:
    recording = _recording([(1000, 2000), (4000, 5000)], [(400, 800), (2500, 3500), (6000, 7000)])
    judgement = judge(recording, stream_began_ms=100)
    assert judgement.time_to_first_audio_ms == 300
    assert judgement.reply_latencies_ms == [500, 1000]
    assert judgement.barge_ins == []
    assert (judgement.agent_talk_ms, judgement.caller_talk_ms) == (2400, 2000)


def test_unanswered_question_has_no_latency() -> None:
    recording = _recording([(0, 1000), (2000, 3000)], [(3400, 4000)])
    assert judge(recording, stream_began_ms=0).reply_latencies_ms == [400]


def test_interruption_says_how_long_the_agent_went_on() -> None:
    recording = _recording([(2000, 3200)], [(1000, 2360), (4000, 5000)])
    judgement = judge(recording, stream_began_ms=0)
    assert judgement.barge_ins == [BargeIn(at_ms=2000, silent_after_ms=360)]
    assert judgement.reply_latencies_ms == [800]
