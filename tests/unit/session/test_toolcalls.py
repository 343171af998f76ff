"""Function calls and their outputs, without a call around them."""

import json
import math

import pytest
from hypothesis import given, strategies as st

from services.session import skills
from services.session.events import FunctionCalled
from services.session.outputs import Outputs
from services.session.toolcalls import (
    ERROR_LIMIT_CHARS,
    GRACE_S,
    OUTPUT_LIMIT_BYTES,
    REMEMBERED,
    ArgumentsError,
    Dispatch,
    Refusal,
    ToolCalls,
    checked_output,
    error_output,
    parse_arguments,
)
from shared.messages import AgentSettings, ToolInfo

pytestmark = pytest.mark.unit

TOOLS = {
    "quick": ToolInfo(name="quick", timeout_ms=1000),
    "mute": ToolInfo(name="mute", timeout_ms=5000, hold_music=False),
}


def call(call_id: str, name: str = "quick", arguments: str = "{}") -> FunctionCalled:
    return FunctionCalled("r1", call_id, name, arguments)


def test_each_call_has_the_limit_of_its_own_tool() -> None:
    calls = ToolCalls(TOOLS)
    assert calls.next_deadline() is None
    assert isinstance(calls.called(call("c1", "mute"), 10.0), Dispatch)
    assert isinstance(calls.called(call("c2"), 10.0), Dispatch)
    assert calls.next_deadline() == 11.0 + GRACE_S
    assert calls.overdue(11.0 + GRACE_S) == ["c2"]


def test_the_wait_with_music_begins_with_the_first_tool_that_allows_it() -> None:
    calls = ToolCalls(TOOLS)
    calls.called(call("c1", "mute"), 10.0)
    assert calls.waiting_since() is None
    calls.called(call("c2"), 11.0)
    calls.called(call("c3"), 12.0)
    assert calls.waiting_since() == 11.0
    calls.answered("c2")
    assert calls.waiting_since() == 12.0


def test_what_the_session_answers_itself_has_no_deadline_and_no_music() -> None:
    calls = ToolCalls(TOOLS)
    assert calls.began(call("c1", "end_call"), 10.0)
    assert not calls.began(call("c1", "end_call"), 10.0)
    assert calls.next_deadline() is None
    assert calls.overdue(math.inf) == ["c1"]
    assert calls.waiting_since() is None
    assert calls.awaits("c1")


def test_calls_are_remembered_within_bounds() -> None:
    calls = ToolCalls(TOOLS)
    for number in range(REMEMBERED + 10):
        calls.called(call(f"c{number}"), 0.0)
        calls.answered(f"c{number}")
    assert calls.called(call(f"c{REMEMBERED}"), 0.0) is None
    assert len(calls._seen) == REMEMBERED


def test_an_unknown_tool_is_answered_with_those_there_are() -> None:
    assert ToolCalls(TOOLS).called(call("c1", "nobody"), 0.0) == Refusal(
        "unknown_tool", "The tools are: quick, mute."
    )
    assert ToolCalls({}).called(call("c1"), 0.0) == Refusal("unknown_tool", "The tools are: none.")


def test_a_tool_can_be_taken_from_the_list() -> None:
    calls = ToolCalls(TOOLS)
    assert calls.drop(2) is None
    assert calls.drop(0) == "quick"
    assert [one["name"] for one in calls.schemas()] == ["mute"]


@given(st.text())
def test_arguments_are_an_object_or_refused(text: str) -> None:
    try:
        found = parse_arguments(text)
    except ArgumentsError:
        return
    assert isinstance(found, dict)
    assert json.dumps(found, ensure_ascii=False).encode()


@given(st.text(st.characters()), st.text(st.characters()))
def test_an_error_is_one_short_json_object_that_can_be_sent(code: str, message: str) -> None:
    output = error_output(code, message)
    assert output.encode()
    found = json.loads(output)
    assert set(found) == {"error", "message"}
    assert len(found["message"]) <= ERROR_LIMIT_CHARS


@given(st.text(st.characters()))
def test_an_output_can_be_sent_whatever_is_in_it(text: str) -> None:
    output, error = checked_output(text)
    assert output.encode().decode() == output
    assert not error


def test_the_limit_of_outputs_is_in_bytes() -> None:
    assert checked_output("x" * OUTPUT_LIMIT_BYTES) == ("x" * OUTPUT_LIMIT_BYTES, "")
    output, error = checked_output("é" * OUTPUT_LIMIT_BYTES)
    assert error == json.loads(output)["error"] == "output_too_large"


# --- outputs that no response has used -----------------------------------------------------------


def test_an_output_is_due_when_its_response_awaits_no_other() -> None:
    outputs = Outputs()
    assert not outputs.due(set())
    outputs.given("c1", "r1")
    assert not outputs.due({"r1"})
    assert outputs.due({"r2"})


def test_the_response_we_asked_for_has_what_was_sent_before() -> None:
    outputs = Outputs()
    outputs.given("c1", "r1")
    outputs.asked()
    outputs.given("c2", "r1")
    outputs.used(ours=True)
    assert list(outputs._unused) == ["c2"]


def test_a_response_of_voice_detection_has_what_the_service_had_taken() -> None:
    outputs = Outputs()
    outputs.given("c1", "r1")
    outputs.given("c2", "r1")
    outputs.taken("c1")
    outputs.taken("c9")
    outputs.asked()
    outputs.used(ours=False)
    assert list(outputs._unused) == ["c2"]


def test_a_new_session_has_used_nothing() -> None:
    outputs = Outputs()
    outputs.given("c1", "r1")
    outputs.taken("c1")
    outputs.session_lost()
    outputs.used(ours=False)
    assert outputs.due(set())


# --- skills --------------------------------------------------------------------------------------


def test_a_transfer_is_offered_only_with_somebody_to_reach() -> None:
    agent = AgentSettings(skills=["transfer_call", "send_dtmf"])
    assert list(skills.offered(agent)) == ["send_dtmf"]
    agent = agent.model_copy(update={"transfer_to": {"b": "+2", "a": "+1"}})
    offered = skills.offered(agent)
    assert list(offered) == ["transfer_call", "send_dtmf"]
    parameters = offered["transfer_call"].parameters
    assert parameters["properties"]["to"]["enum"] == ["a", "b"]
    assert "+1" not in json.dumps(parameters), "the model need not know the number"


def test_no_skill_is_waited_for_with_music() -> None:
    agent = AgentSettings(
        skills=["end_call", "transfer_call", "send_dtmf"], transfer_to={"a": "+1"}
    )
    assert not any(tool.hold_music for tool in skills.offered(agent).values())
