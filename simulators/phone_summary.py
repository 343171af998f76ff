"""Judges a call by its recording: how soon the agent answered, and how soon it fell silent.

Pure: it reads what was said and heard, not what anybody claims to have sent.
"""

from dataclasses import asdict, dataclass

from simulators.recording import Recording, Segment

__all__ = ["BargeIn", "Judgement", "judge"]

_CALLER_GAP_MS = 600
"""Shorter silences belong to one thing the caller said."""

_AGENT_GAP_MS = 200
"""Shorter silences are inside words; longer ones mean that the agent stopped."""


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The caller began to speak while the agent was speaking."""

    at_ms: int
    silent_after_ms: int
    """Until the agent fell silent."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the recording says about the call; all times in milliseconds."""

    time_to_first_audio_ms: int | None
    """From the first stream's start to the agent's first sound."""
    reply_latencies_ms: list[int]
    """From the end of what the caller said to the agent's next sound, for each that got a reply."""
    barge_ins: list[BargeIn]
    agent_talk_ms: int
    caller_talk_ms: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def judge(recording: Recording, *, stream_began_ms: int | None) -> Judgement:
    """Return what can be heard in a recording."""
    caller = recording.segments("said", min_gap_ms=_CALLER_GAP_MS)
    agent = recording.segments("agent", min_gap_ms=_AGENT_GAP_MS)
    first = agent[0][0] if agent else None
    return Judgement(
        time_to_first_audio_ms=(
            None if first is None or stream_began_ms is None else max(0, first - stream_began_ms)
        ),
        reply_latencies_ms=_reply_latencies(caller, agent),
        barge_ins=_barge_ins(caller, agent),
        agent_talk_ms=sum(end - start for start, end in agent),
        caller_talk_ms=sum(end - start for start, end in caller),
    )


def _reply_latencies(caller: list[Segment], agent: list[Segment]) -> list[int]:
    latencies = []
    for index, (_, said) in enumerate(caller):
        spoke_again = caller[index + 1][0] if index + 1 < len(caller) else None
        reply = next((start for start, _ in agent if start >= said), None)
        if reply is not None and (spoke_again is None or reply < spoke_again):
            latencies.append(reply - said)
    return latencies


def _barge_ins(caller: list[Segment], agent: list[Segment]) -> list[BargeIn]:
    return [
        BargeIn(at_ms=began, silent_after_ms=silent - began)
        for began, _ in caller
        for spoke, silent in agent
        if spoke < began < silent
    ]
