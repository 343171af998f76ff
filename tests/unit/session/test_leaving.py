"""What the session itself does for the model: end the call, hand it over, press keys."""

import pytest

from services.session import events
from services.session.leaving import FAREWELL_LIMIT_S, KEYS_LIMIT_S, PHONE_UPDATE_LIMIT_S
from services.session.line import AWAY_TIMEOUT_S, REATTACH_TIMEOUT_S
from services.session.states import Model, Phone
from services.session.voice import MARK_GRACE_S
from shared import messages
from tests.unit.session.watched import (
    ABLE,
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

TO = '{"to": "front desk"}'


def reason(watched: Watched) -> str:
    assert watched.call.phone is Phone.ENDED
    return line(watched.actions, messages.CallEnded).reason


def saying(name: str, arguments: str = "{}", ms: int = 2000) -> Watched:
    """The agent says something for `ms` and uses a skill in the same response."""
    watched = Watched(ABLE).talking()
    watched.feed(
        events.ResponseStarted("r1", ""),
        events.AudioReceived("r1", "i1", bytes(ms * 8)),
        events.AudioCompleted("r1", "i1"),
        events.FunctionCalled("r1", "c1", name, arguments),
        finished("r1"),
    )
    return watched


# --- end_call ------------------------------------------------------------------------------------


def test_the_call_ends_when_the_phone_says_that_the_goodbye_was_heard() -> None:
    watched = saying("end_call")
    watched.listen(2.1)
    assert watched.call.phone is Phone.TALKING, "by the clock is not heard"
    watched.play_out()
    assert reason(watched) == "agent_hung_up"
    assert "interrupted" not in told(watched.actions)


def test_a_phone_that_returns_no_marks_does_not_keep_the_call_open() -> None:
    watched = saying("end_call")
    watched.listen(2.0 + MARK_GRACE_S + 0.3)
    assert reason(watched) == "agent_hung_up"


def test_a_goodbye_that_takes_too_long_is_bounded() -> None:
    watched = saying("end_call", ms=60_000)
    watched.listen(FAREWELL_LIMIT_S - 0.1)
    assert watched.call.phone is Phone.TALKING
    watched.listen(0.1)
    assert reason(watched) == "agent_hung_up"


def test_an_agent_that_says_nothing_is_asked_for_a_goodbye() -> None:
    watched = Watched(ABLE).talking()
    out = watched.turn("r1", ("c1", "end_call"))
    assert outputs(out) == [("c1", {"ok": True})]
    assert purposes(out) == ["goodbye"]
    watched.answer_asked("r2", 1000)
    watched.listen(1.0)
    watched.play_out()
    assert reason(watched) == "agent_hung_up"
    assert purposes(watched.actions).count("goodbye") == 1


def test_a_goodbye_without_a_sound_ends_the_call_all_the_same() -> None:
    watched = Watched(ABLE).talking()
    watched.turn("r1", ("c1", "end_call"))
    watched.feed(events.ResponseStarted("r2", "goodbye"), finished("r2"))
    assert reason(watched) == "agent_hung_up"


def test_a_caller_who_speaks_over_the_goodbye_is_not_hung_up_on() -> None:
    watched = saying("end_call")
    watched.listen(0.5)
    out = watched.feed(events.SpeechStarted("u2"))
    assert errors(out) == ["interrupted"]
    watched.feed(events.OutputTaken("c1"), events.SpeechStopped("u2"))
    watched.feed(events.ResponseStarted("r2", ""))
    watched.say("r2", "i2", 500)
    watched.listen(60.0)
    assert watched.call.phone is Phone.TALKING
    assert purposes(watched.actions) == ["greeting"]


def test_a_caller_who_speaks_already_is_not_hung_up_on() -> None:
    watched = Watched(ABLE).talking()
    watched.feed(events.SpeechStarted("u1"), events.ResponseStarted("r1", ""))
    assert errors(watched.feed(events.FunctionCalled("r1", "c1", "end_call", "{}"))) == [
        "interrupted"
    ]


def test_other_tools_of_the_last_response_do_not_keep_the_call_open() -> None:
    watched = Watched(ABLE).talking()
    watched.feed(
        events.ResponseStarted("r1", ""),
        events.AudioReceived("r1", "i1", bytes(8000)),
        events.FunctionCalled("r1", "c1", "lookup", "{}"),
        events.FunctionCalled("r1", "c2", "end_call", "{}"),
        finished("r1"),
        events.ToolFinished("c1", "{}", ""),
    )
    watched.listen(1.0)
    watched.play_out()
    assert reason(watched) == "agent_hung_up"


def test_a_model_that_is_lost_before_the_goodbye_is_not_asked_before_it_is_back() -> None:
    watched = Watched(ABLE).talking()
    watched.feed(
        events.ResponseStarted("r1", ""), events.FunctionCalled("r1", "c1", "end_call", "{}")
    )
    watched.feed(events.ModelClosed(1006, ""))
    assert sent(watched.listen(1.0)) == []
    watched.listen(FAREWELL_LIMIT_S)
    assert reason(watched) == "agent_hung_up"


# --- transfer_call -------------------------------------------------------------------------------


def transferred() -> Watched:
    """The caller is with somebody else."""
    watched = saying("transfer_call", TO)
    watched.listen(2.0)
    watched.play_out()
    watched.feed(events.PhoneUpdated(1, "transfer", True, "", ""), events.LegStopped(1))
    return watched


def test_a_transfer_waits_until_the_words_were_heard() -> None:
    watched = saying("transfer_call", TO)
    assert "TransferLeg" not in kinds(watched.listen(2.0))
    out = watched.play_out()
    assert [one.to for one in out if isinstance(one, events.TransferLeg)] == ["+15550001111"]
    assert outputs(watched.actions) == []


@pytest.mark.parametrize("arguments", ["{}", '{"to": "+15559999999"}', '{"to": 7}', "[]"])
def test_only_whom_the_agent_knows_can_be_reached(arguments: str) -> None:
    watched = saying("transfer_call", arguments)
    assert errors(watched.actions) == ["invalid_arguments"]
    watched.listen(60.0)
    assert "TransferLeg" not in kinds(watched.actions)


def test_a_destination_that_fits_into_no_message_is_not_offered() -> None:
    agent = ABLE.model_copy(update={"transfer_to": {"far": "sip:" + "x" * 100}})
    (update,) = sent(Watched(agent).configure(), "session.update")
    assert "transfer_call" not in [tool["name"] for tool in update["session"]["tools"]]


def test_a_caller_who_leaves_for_a_transfer_has_not_hung_up_and_no_model_is_paid_for() -> None:
    watched = transferred()
    assert watched.call.phone is Phone.AWAY
    assert watched.call.model is Model.DOWN
    assert line(watched.actions, messages.TransferStarted).to == "front desk"
    watched.wait(3600.0)
    assert watched.call.phone is Phone.AWAY
    assert "transfer_failed" not in told(watched.actions)


@pytest.mark.parametrize("waits", [0.0, AWAY_TIMEOUT_S])
def test_a_call_that_ends_while_the_caller_is_away_was_transferred(waits: float) -> None:
    watched = transferred()
    watched.wait(waits)
    if not waits:
        watched.feed(events.HangUpRequested("phone_completed"))
    assert reason(watched) == "transferred"


def test_a_caller_whom_nobody_answered_is_back_with_an_agent_that_knows() -> None:
    watched = transferred()
    watched.wait(30.0)
    out = watched.feed(
        events.LegRequested("gw-1", "MZ2", "pcmu", "dial:no-answer"), events.LegStarted(2)
    )
    assert "DialModel" in kinds(out)
    assert line(out, messages.TransferFailed).code == "no-answer"
    out = watched.configure()
    assert outputs(out) == [("c1", {"error": "no-answer", "message": "The transfer did not work."})]
    assert purposes(out) == ["resume"]
    assert purposes(watched.actions).count("greeting") == 1
    watched.answer_asked("r2")
    watched.listen(60.0)
    assert watched.call.phone is Phone.TALKING


def test_a_caller_who_comes_back_to_a_model_that_is_slow_to_come_hears_music() -> None:
    watched = transferred()
    watched.feed(events.LegRequested("gw-1", "MZ2", "pcmu", "dial:busy"), events.LegStarted(2))
    assert "PlayMusic" in kinds(watched.listen(2.0))
    watched.configure()
    assert "StopMusic" in kinds(watched.answer_asked("r2"))


def test_a_transfer_that_the_phone_company_refuses_is_told_to_the_model_at_once() -> None:
    watched = saying("transfer_call", TO)
    watched.listen(2.0)
    watched.play_out()
    out = watched.feed(events.PhoneUpdated(1, "transfer", False, "21220", "not in-progress"))
    assert errors(out) == ["21220"]
    assert purposes(out) == ["tools"]
    assert line(out, messages.TransferFailed).code == "21220"
    watched.answer_asked("r2")
    watched.feed(events.LegStopped(1))
    assert reason(watched) == "caller_hung_up"


def test_a_transfer_of_which_nothing_is_heard_is_given_up() -> None:
    watched = saying("transfer_call", TO)
    watched.listen(2.0)
    watched.play_out()
    assert errors(watched.listen(PHONE_UPDATE_LIMIT_S)) == ["timeout"]


def test_music_stops_before_the_caller_is_handed_over() -> None:
    watched = Watched(ABLE).talking()
    watched.turn("r1", ("c1", "lookup"))
    assert "PlayMusic" in kinds(watched.listen(3.0))
    out = watched.feed(
        events.ToolFinished("c1", "{}", ""),
        events.ResponseStarted("r2", "tools"),
        events.FunctionCalled("r2", "c2", "transfer_call", TO),
        finished("r2"),
    )
    assert kinds(out).index("StopMusic") < kinds(out).index("TransferLeg")


def test_one_step_at_a_time() -> None:
    watched = saying("transfer_call", TO)
    out = watched.feed(events.FunctionCalled("r1", "c2", "end_call", "{}"))
    assert errors(out) == ["busy"]


# --- send_dtmf -----------------------------------------------------------------------------------


def test_keys_are_pressed_on_a_new_leg_and_the_talk_goes_on() -> None:
    watched = Watched(ABLE).talking()
    out = watched.turn("r1", ("c1", "send_dtmf"), arguments='{"digits": "1w2#"}')
    assert [one.digits for one in out if isinstance(one, events.SendDigits)] == ["1w2#"]
    out = watched.feed(events.PhoneUpdated(1, "digits", True, "", ""))
    assert outputs(out) == [("c1", {"ok": True})]
    assert line(out, messages.DigitsSent).digits == "1w2#"
    assert purposes(out) == [], "the phone is about to go"
    watched.feed(events.LegStopped(1))
    watched.wait(REATTACH_TIMEOUT_S + KEYS_LIMIT_S / 2)
    assert purposes(watched.attach()) == ["tools"]
    watched.answer_asked("r2")
    watched.feed(events.LegStopped(2))
    assert reason(watched) == "caller_hung_up"


def test_a_phone_that_is_back_from_keys_needs_no_other_word() -> None:
    watched = Watched(ABLE).talking()
    watched.turn("r1", ("c1", "send_dtmf"), arguments='{"digits": "1"}')
    out = watched.attach()
    assert outputs(out) == [("c1", {"ok": True})]
    assert purposes(out) == ["tools"]


@pytest.mark.parametrize("arguments", ["{}", '{"digits": ""}', '{"digits": "1a"}', '{"digits": 5}'])
def test_what_is_no_key_is_not_pressed(arguments: str) -> None:
    watched = Watched(ABLE).talking()
    out = watched.turn("r1", ("c1", "send_dtmf"), arguments=arguments)
    assert errors(out) == ["invalid_arguments"]
    assert "SendDigits" not in kinds(out)


def test_keys_that_cannot_be_pressed_are_told() -> None:
    watched = Watched(ABLE).talking()
    watched.turn("r1", ("c1", "send_dtmf"), arguments='{"digits": "1"}')
    out = watched.feed(events.PhoneUpdated(1, "digits", False, "no_credentials", ""))
    assert errors(out) == ["no_credentials"]
    assert purposes(out) == ["tools"]


def test_a_phone_that_does_not_move_for_its_keys_does_not_silence_the_agent() -> None:
    watched = Watched(ABLE).talking()
    watched.turn("r1", ("c1", "send_dtmf"), arguments='{"digits": "1"}')
    watched.feed(events.PhoneUpdated(1, "digits", True, "", ""))
    assert purposes(watched.listen(KEYS_LIMIT_S)) == ["tools"]
