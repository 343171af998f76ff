"""What is counted, and that labels do not grow with what others send."""

import pytest
from prometheus_client import REGISTRY

from services.session import metrics
from shared import messages
from shared.messages import Event

pytestmark = pytest.mark.unit

COMMON = {"call": "CA" + "0" * 32, "epoch": 1, "at": "2026-11-22T10:00:00Z", "ms": 0}


def counted(event: Event, name: str, **labels: str) -> float:
    """By how much observing this line raises a metric."""
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    metrics.observe(event)
    return (REGISTRY.get_sample_value(name, labels) or 0.0) - before


def tool(error: str) -> messages.ToolAnswered:
    fields = {"call_id": "c1", "name": "look_up", "output": "{}", "duration_ms": 2500}
    return messages.ToolAnswered.model_validate({**COMMON, **fields, "error": error})


@pytest.mark.parametrize(
    ("error", "outcome"),
    [("", "ok"), ("timeout", "timeout"), ("unknown_tool", "unknown_tool"), ("E42", "other")],
)
def test_function_calls_are_counted_by_outcome(error: str, outcome: str) -> None:
    assert counted(tool(error), "switchboard_tools_total", outcome=outcome) == 1


def test_function_calls_are_timed() -> None:
    assert counted(tool(""), "switchboard_tool_seconds_sum") == 2.5


def test_hold_music_is_counted_by_why_it_stopped() -> None:
    fields = {"hold": 1, "reason": "caller", "duration_ms": 3000}
    ended = messages.HoldEnded.model_validate({**COMMON, **fields})
    assert counted(ended, "switchboard_holds_total", reason="caller") == 1
    assert counted(ended, "switchboard_hold_seconds_sum") == 3.0


def test_transfers_are_counted() -> None:
    started = messages.TransferStarted.model_validate({**COMMON, "to": "desk"})
    failed = messages.TransferFailed.model_validate({**COMMON, "to": "desk", "code": "busy"})
    assert counted(started, "switchboard_transfers_total", outcome="started") == 1
    assert counted(failed, "switchboard_transfers_total", outcome="failed") == 1


@pytest.mark.parametrize(
    ("reason", "label"),
    [("agent_hung_up", "agent_hung_up"), ("transferred", "transferred"), ("phone_busy", "other")],
)
def test_calls_are_counted_by_how_they_ended(reason: str, label: str) -> None:
    ended = messages.CallEnded.model_validate({**COMMON, "reason": reason, "duration_ms": 0})
    assert counted(ended, "switchboard_session_ended_total", reason=label) == 1
