"""Function calls: each runs at most once, has exactly one output, and is spoken about once."""

import json

import pytest

from services.session import events
from services.session.history import ToolTurn
from services.session.line import REATTACH_TIMEOUT_S
from services.session.toolcalls import (
    ERROR_LIMIT_CHARS,
    GRACE_S,
    OUTPUT_LIMIT_BYTES,
    RUNNING_LIMIT,
)
from services.session.turns import RETRY_WAITS_S
from shared import messages
from shared.messages import AgentSettings, Tokens, ToolInfo
from tests.unit.session.watched import (
    TOOLS,
    Watched,
    errors,
    finished,
    kinds,
    line,
    outputs,
    purposes,
    sent,
    told,
)

pytestmark = pytest.mark.unit

FOUND = '{"temp": 7}'


def ran(actions: list[events.Action]) -> list[events.RunTool]:
    return [one for one in actions if isinstance(one, events.RunTool)]


def answer(call_id: str, output: str = FOUND, error: str = "") -> events.ToolFinished:
    return events.ToolFinished(call_id, output, error)


# --- the usual way -------------------------------------------------------------------------------


def test_the_model_is_offered_the_tools_on_the_bus_and_the_agents_skills() -> None:
    (update,) = sent(Watched().configure(), "session.update")
    assert [tool["name"] for tool in update["session"]["tools"]] == [*TOOLS, "end_call"]
    assert {tool["type"] for tool in update["session"]["tools"]} == {"function"}


def test_an_agent_may_have_fewer_tools_and_no_skill() -> None:
    watched = Watched(AgentSettings(tools=["search", "gone"], skills=[]))
    (update,) = sent(watched.configure(), "session.update")
    assert [tool["name"] for tool in update["session"]["tools"]] == ["search"]


def test_a_strangers_tool_does_not_take_the_name_of_a_skill() -> None:
    watched = Watched(tools={"end_call": ToolInfo(name="end_call", description="Mine.")})
    (update,) = sent(watched.configure(), "session.update")
    (tool,) = update["session"]["tools"]
    assert tool["description"] != "Mine."


def test_a_tool_is_asked_and_its_output_is_given_to_the_model_and_spoken_about() -> None:
    watched = Watched().talking()
    out = watched.turn("r1", ("c1", "lookup"), arguments='{"place":\n "Oslo"}')
    (run,) = ran(out)
    assert (run.name, run.arguments, run.deadline_ms) == ("lookup", {"place": "Oslo"}, 8000)
    assert purposes(out) == []
    watched.listen(0.7)
    out = watched.feed(answer("c1"))
    assert [one["type"] for one in sent(out)] == ["conversation.item.create", "response.create"]
    assert outputs(out) == [("c1", {"temp": 7})]
    assert purposes(out) == ["tools"]
    assert purposes(watched.answer_asked("r2")) == []
    called, answered = (
        line(watched.actions, messages.ToolCalled),
        line(watched.actions, messages.ToolAnswered),
    )
    assert (called.name, called.arguments) == ("lookup", '{"place":\n "Oslo"}')
    assert (answered.name, answered.output, answered.error) == ("lookup", FOUND, "")
    assert answered.duration_ms == 700


def test_a_call_told_twice_runs_once() -> None:
    watched = Watched().talking()
    call = events.FunctionCalled("r1", "c1", "lookup", "{}")
    watched.feed(events.ResponseStarted("r1", ""))
    assert len(ran(watched.feed(call, call))) == 1
    watched.feed(finished("r1"), answer("c1"))
    assert watched.feed(answer("c1")) == []
    assert ran(watched.feed(call)) == []


def test_no_arguments_at_all_are_an_empty_object() -> None:
    watched = Watched().talking()
    (run,) = ran(watched.turn("r1", ("c1", "lookup"), arguments=""))
    assert run.arguments == {}


# --- several calls -------------------------------------------------------------------------------


def test_calls_of_one_response_run_side_by_side_and_are_spoken_about_once() -> None:
    watched = Watched().talking()
    assert len(ran(watched.turn("r1", ("c1", "lookup"), ("c2", "search")))) == 2
    out = watched.feed(answer("c2"))
    assert outputs(out) == [("c2", {"temp": 7})]
    assert purposes(out) == []
    assert purposes(watched.feed(answer("c1"))) == ["tools"]
    assert purposes(watched.answer_asked("r2")) == []


def test_a_fast_tool_does_not_wait_for_a_slow_one_of_another_response() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("slow", "lookup"))
    watched.turn("r2", ("fast", "search"))
    assert purposes(watched.feed(answer("fast"))) == ["tools"]
    watched.answer_asked("r3")
    watched.listen(1.0)
    assert purposes(watched.feed(answer("slow"))) == ["tools"]


def test_a_result_that_arrives_while_a_response_runs_waits_for_its_end() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(events.ResponseStarted("r2", ""))
    out = watched.feed(answer("c1"))
    assert outputs(out) == [("c1", {"temp": 7})]
    assert purposes(out) == []
    assert purposes(watched.say("r2", "i2", 200)) == ["tools"]


def test_an_output_before_its_own_response_is_done_leads_to_one_answer() -> None:
    """The 2.1 family: words and a call in one response, told side by side."""
    watched = Watched().talking()
    watched.feed(
        events.ResponseStarted("r1", ""),
        events.AudioReceived("r1", "i1", bytes(1600)),
        events.FunctionCalled("r1", "c1", "lookup", "{}"),
    )
    out = watched.feed(answer("c1"), events.OutputTaken("c1"))
    assert outputs(out) == [("c1", {"temp": 7})]
    assert purposes(out) == []
    out = watched.feed(events.AudioCompleted("r1", "i1"), finished("r1"))
    assert purposes(out) == ["tools"]
    assert purposes(watched.answer_asked("r2")) == []


# --- the caller speaks ---------------------------------------------------------------------------


def test_a_result_that_arrives_while_the_caller_speaks_is_used_by_the_answer_to_that() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(events.SpeechStarted("u2"))
    assert purposes(watched.feed(answer("c1"), events.OutputTaken("c1"))) == []
    watched.feed(events.SpeechStopped("u2"), events.ResponseStarted("r2", ""))
    assert purposes(watched.say("r2", "i2", 200)) == []


def test_a_response_that_began_before_the_output_came_has_not_used_it() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(events.SpeechStarted("u2"), events.SpeechStopped("u2"))
    # They cross on the wire: the service tells of the response first.
    watched.feed(answer("c1"), events.ResponseStarted("r2", ""), events.OutputTaken("c1"))
    assert purposes(watched.say("r2", "i2", 200)) == ["tools"]


def test_a_refused_question_about_an_output_is_asked_again_although_another_has_spoken() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    assert purposes(watched.feed(answer("c1"))) == ["tools"]
    conflict = events.ModelErrored("conversation_already_has_active_response", "", "", "")
    watched.feed(events.ResponseStarted("r2", ""), conflict)
    assert purposes(watched.say("r2", "i2", 200)) == ["tools"]


def test_a_conflict_does_not_make_us_ask_again_and_again() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(answer("c1"))
    conflict = events.ModelErrored("conversation_already_has_active_response", "", "", "")
    assert purposes(watched.feed(conflict)) == []
    assert purposes(watched.listen(RETRY_WAITS_S[0])) == ["tools"]


def test_a_caller_who_interrupts_a_tool_turn_does_not_lose_its_result() -> None:
    watched = Watched().talking()
    watched.feed(
        events.ResponseStarted("r1", ""),
        events.AudioReceived("r1", "i1", bytes(8000)),
        events.FunctionCalled("r1", "c1", "lookup", "{}"),
        events.SpeechStarted("u2"),
        finished("r1", "cancelled", "turn_detected"),
        events.SpeechStopped("u2"),
        events.ResponseStarted("r2", ""),
    )
    watched.say("r2", "i2", 200)
    out = watched.feed(answer("c1"))
    assert outputs(out) == [("c1", {"temp": 7})]
    assert purposes(out) == ["tools"]


def test_a_call_of_an_interrupted_response_is_not_run_but_answered() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""), events.SpeechStarted("u2"))
    out = watched.feed(events.FunctionCalled("r1", "c1", "lookup", "{}"))
    assert ran(out) == []
    assert errors(out) == ["interrupted"]
    watched.feed(finished("r1", "cancelled", "turn_detected"), events.OutputTaken("c1"))
    watched.feed(events.SpeechStopped("u2"), events.ResponseStarted("r2", ""))
    assert purposes(watched.say("r2", "i2", 200)) == []


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("nobody", "{}", "unknown_tool"),
        ("lookup", "{", "invalid_json"),
        ("lookup", "[]", "invalid_arguments"),
        ("lookup", '"Oslo"', "invalid_arguments"),
        ("lookup", "null", "invalid_arguments"),
        ("lookup", '{"a": NaN}', "invalid_json"),
        ("lookup", '{"a": "\\ud83d"}', "invalid_json"),
        ("lookup", '{"a": ' + "[" * 100_000, "invalid_json"),
        ("lookup", '{"a": ' + "1" * 10_000 + "}", "invalid_json"),
    ],
)
def test_a_call_that_cannot_run_is_answered_with_an_error_and_spoken_about(
    name: str, arguments: str, code: str
) -> None:
    watched = Watched().talking()
    out = watched.turn("r1", ("c1", name), arguments=arguments)
    assert ran(out) == []
    ((_, output),) = outputs(out)
    assert set(output) == {"error", "message"}
    assert output["error"] == code
    assert 0 < len(output["message"]) <= ERROR_LIMIT_CHARS
    assert purposes(out) == ["tools"]
    assert line(out, messages.ToolAnswered).error == code
    watched.answer_asked("r2")
    assert "PlayMusic" not in kinds(watched.listen(20.0))


@pytest.mark.parametrize("code", ["unavailable", "timeout", "failed", "invalid_output", "E42"])
def test_a_tool_that_fails_is_told_to_the_model_in_one_short_error(code: str) -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    out = watched.feed(answer("c1", "It did not work. " * 1000, code))
    ((_, output),) = outputs(out)
    assert output["error"] == code
    assert len(output["message"]) == ERROR_LIMIT_CHARS
    assert purposes(out) == ["tools"]


def test_an_output_that_is_too_large_becomes_an_error() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"), ("c2", "lookup"))
    fits, large = json.dumps("x" * (OUTPUT_LIMIT_BYTES - 2)), json.dumps("é" * OUTPUT_LIMIT_BYTES)
    out = watched.feed(answer("c1", fits), answer("c2", large))
    assert outputs(out)[0] == ("c1", json.loads(fits))
    assert line(out, messages.ToolAnswered).error == "output_too_large"


def test_an_output_with_half_a_character_can_still_be_sent() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    out = watched.feed(answer("c1", '{"text": "\ud83d"}'))
    assert json.dumps(sent(out), ensure_ascii=False).encode()


def test_a_tool_that_never_answers_is_given_up_after_its_own_limit() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    assert errors(watched.listen(8.0)) == []
    out = watched.listen(GRACE_S)
    assert errors(out) == ["timeout"]
    assert purposes(out) == ["tools"]
    assert watched.feed(answer("c1")) == []


def test_too_many_tools_at_once_are_refused() -> None:
    watched = Watched().talking()
    out = watched.turn("r1", *((f"c{number}", "lookup") for number in range(RUNNING_LIMIT + 2)))
    assert len(ran(out)) == RUNNING_LIMIT
    assert errors(out) == ["too_many"] * 2


def test_a_tool_that_the_model_refuses_is_left_out() -> None:
    watched = Watched()
    watched.attach()
    watched.feed(events.SessionCreated())
    out = watched.feed(
        events.ModelErrored("invalid_value", "Bad schema", "session.tools[1].parameters", "")
    )
    (update,) = sent(out, "session.update")
    assert [one["name"] for one in update["session"]["tools"]] == ["lookup", "hushed", "end_call"]
    assert line(out, messages.ModelFailed).effect == "retried"
    assert purposes(watched.feed(watched.updated())) == ["greeting"]


# --- the model's socket, the phone's socket ------------------------------------------------------


def test_a_socket_lost_while_a_tool_runs_is_replayed_the_call_and_given_the_output() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(0.0)
    out = watched.configure()
    items = [one["item"] for one in sent(out, "conversation.item.create")]
    assert items[-1] == {
        "type": "function_call",
        "call_id": "c1",
        "name": "lookup",
        "arguments": "{}",
    }
    assert purposes(out) == []
    out = watched.feed(answer("c1"))
    assert outputs(out) == [("c1", {"temp": 7})]
    assert purposes(out) == ["tools"]


def test_an_output_that_comes_while_there_is_no_session_is_replayed_and_spoken_about() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(0.0)
    assert sent(watched.feed(answer("c1"))) == []
    out = watched.configure()
    assert outputs(out) == [("c1", {"temp": 7})]
    assert len(purposes(out)) == 1
    assert purposes(watched.answer_asked("r2")) == []


def test_an_output_that_was_given_to_a_lost_session_is_given_to_the_next() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(answer("c1"), events.ModelClosed(1006, ""))
    watched.listen(0.0)
    out = watched.configure()
    assert outputs(out) == [("c1", {"temp": 7})]
    assert len(purposes(out)) == 1


def test_a_phone_that_is_lost_while_a_tool_runs_hears_the_answer_when_it_is_back() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.feed(events.LegLost(1, "closed"))
    assert purposes(watched.feed(answer("c1"))) == []
    watched.wait(REATTACH_TIMEOUT_S / 2)
    assert purposes(watched.attach()) == ["tools"]


def test_a_call_of_long_ago_is_still_replayed_while_its_output_is_to_come() -> None:
    watched = Watched(tools={"lookup": ToolInfo(name="lookup", timeout_ms=300_000)}).talking()
    watched.turn("r1", ("c1", "lookup"))
    for number in range(100):
        watched.feed(events.CallerTranscript(f"u{number}", "Still there?", Tokens(), 0.0))
    replayed = watched.call._talk._history.replay()
    assert isinstance(replayed[0], ToolTurn)


def test_a_call_that_ends_while_a_tool_runs_tells_nothing_more() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    out = watched.feed(events.LegStopped(1))
    assert told(out) == ["ended"]
    assert watched.feed(answer("c1")) == []
