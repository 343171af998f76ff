"""What a new session is told of the conversation so far."""

import pytest
from hypothesis import given, strategies as st

from services.session.history import KEEP_TURNS, REPLAY_TURNS, History, ToolTurn, Turn

pytestmark = pytest.mark.unit


def test_turns_are_told_in_the_order_in_which_they_began() -> None:
    history = History()
    history.turn("u1", "caller")
    history.turn("a1", "agent").text = "We open at nine."
    history.turn("u1", "caller").text = "When do you open?"  # its transcript comes last
    assert history.replay() == [("user", "When do you open?"), ("assistant", "We open at nine.")]


def test_turns_without_words_are_left_out() -> None:
    history = History()
    history.turn("u1", "caller").text = "  "
    history.turn("a1", "agent")
    assert history.replay() == []


@pytest.mark.parametrize(
    ("heard", "text"),
    [(1.0, "one two three"), (0.95, "one two"), (0.5, "one"), (0.3, "one"), (0.1, ""), (0.0, "")],
)
def test_only_whole_words_that_were_heard_are_told(heard: float, text: str) -> None:
    assert Turn("a", "agent", "one two three", heard).heard_text == text


@given(st.text(max_size=80), st.floats(0, 1))
def test_what_was_heard_is_a_beginning_of_what_was_said(text: str, heard: float) -> None:
    assert text.startswith(Turn("a", "agent", text, heard).heard_text)


def test_the_caller_is_unanswered_when_the_caller_spoke_last() -> None:
    history = History()
    assert not history.unanswered()
    history.turn("u1", "caller")
    assert history.unanswered()
    history.turn("a1", "agent")
    assert not history.unanswered()


def test_a_long_call_is_told_by_its_last_turns_and_fills_no_memory() -> None:
    history = History()
    for number in range(KEEP_TURNS + 100):
        history.turn(f"u{number}", "caller").text = f"turn {number}"
    said = history.replay()
    assert len(said) == REPLAY_TURNS
    assert said[-1] == ("user", f"turn {KEEP_TURNS + 99}")
    assert len(history._turns) == KEEP_TURNS


def test_function_calls_are_told_in_their_place_with_their_outputs() -> None:
    history = History()
    history.turn("u1", "caller").text = "Is it cold?"
    history.tool("c1", "get_weather", "{}")
    history.turn("a1", "agent").text = "It is."
    history.tool_answered("c1", '{"temp": 7}')
    history.tool_answered("c2", "nobody asked")
    assert history.replay() == [
        ("user", "Is it cold?"),
        ToolTurn("c1", "get_weather", "{}", '{"temp": 7}'),
        ("assistant", "It is."),
    ]


def test_an_output_is_something_to_speak_about_and_a_tool_that_runs_is_not() -> None:
    history = History()
    history.tool("c1", "get_weather", "{}")
    assert not history.unanswered()
    history.tool_answered("c1", "{}")
    assert history.unanswered()


def test_calls_whose_output_is_to_come_are_told_however_old_they_are() -> None:
    history = History()
    history.tool("old", "lookup", "{}")
    history.tool("done", "lookup", "{}")
    history.tool_answered("done", "{}")
    for number in range(REPLAY_TURNS):
        history.turn(f"u{number}", "caller").text = "hello"
    said = history.replay()
    assert said[0] == ToolTurn("old", "lookup", "{}")
    assert len(said) == REPLAY_TURNS + 1
