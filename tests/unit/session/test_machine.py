"""The rules of a call, one by one."""

import pytest

from services.session import events
from services.session.line import (
    ATTACH_TIMEOUT_S,
    LINE_TIMEOUT_S,
    REATTACH_TIMEOUT_S,
    START_TIMEOUT_S,
)
from services.session.link import CONFIGURE_TIMEOUT_S, REDIAL_WAITS_S
from services.session.states import LocalError, Model, Phone, RemoteError
from services.session.turns import RESUME_NOTE, RETRY_WAITS_S, STALL_TIMEOUT_S
from shared import messages
from shared.messages import AgentSettings, Tokens
from tests.unit.session.watched import (
    Watched,
    finished,
    kinds,
    line,
    names,
    played_ms,
    purposes,
    sent,
    told,
)

pytestmark = pytest.mark.unit


def reason(watched: Watched) -> str:
    assert watched.call.phone is Phone.ENDED
    ended = line(watched.actions, messages.CallEnded)
    assert watched.call.record.state == "ended"
    assert watched.call.record.reason == ended.reason
    return ended.reason


# --- the beginning -------------------------------------------------------------------------------


def test_the_model_is_dialled_while_the_phone_still_rings() -> None:
    watched = Watched()
    assert kinds(watched.actions) == ["Tell", "DialModel"]
    assert told(watched.actions) == ["offered"]


def test_connected_means_that_the_session_was_created_and_then_it_is_configured() -> None:
    watched = Watched()
    assert [one["type"] for one in sent(watched.feed(events.SessionCreated()))] == [
        "session.update"
    ]
    assert watched.call.model is Model.CONFIGURING


def test_the_agent_greets_when_the_model_is_configured_and_the_phone_listens() -> None:
    model_first = Watched()
    assert purposes(model_first.configure()) == []
    assert purposes(model_first.attach()) == ["greeting"]
    phone_first = Watched()
    assert purposes(phone_first.attach()) == []
    assert purposes(phone_first.configure()) == ["greeting"]


def test_the_greeting_repeats_the_instructions_because_it_replaces_them() -> None:
    watched = Watched(AgentSettings(instructions="Be kind.", greeting="Say hello."))
    watched.configure()
    (create,) = sent(watched.attach(), "response.create")
    assert create["response"]["instructions"] == "Be kind.\n\nSay hello."


def test_caller_audio_flows_after_the_greeting_was_asked_for() -> None:
    watched = Watched()
    watched.configure()
    out = kinds(watched.attach())
    assert out.index("SendModel") < out.index("OpenUplink")


def test_without_a_greeting_the_caller_speaks_first() -> None:
    watched = Watched(AgentSettings(greeting=None))
    watched.configure()
    out = watched.attach()
    assert purposes(out) == []
    assert "OpenUplink" in kinds(out)


def test_another_format_than_asked_for_ends_the_call_before_a_sound() -> None:
    watched = Watched()
    watched.attach()
    pcm = {"type": "audio/pcm", "rate": 24000}
    watched.feed(events.SessionCreated(), events.SessionUpdated({"type": "audio/pcmu"}, pcm))
    assert reason(watched) == "model_unavailable"
    assert line(watched.actions, messages.CallEnded).detail == "format_mismatch"
    assert "OpenUplink" not in kinds(watched.actions)


def test_a_refused_configuration_ends_the_call_instead_of_speaking_with_the_defaults() -> None:
    watched = Watched()
    watched.attach()
    watched.feed(
        events.SessionCreated(),
        events.ModelErrored("unknown_parameter", "Unknown parameter", "session.x", "sb_000001"),
    )
    assert reason(watched) == "model_unavailable"
    failed = line(watched.actions, messages.ModelFailed)
    assert (failed.code, failed.effect) == ("unknown_parameter", "ended")


def test_a_phone_that_never_comes_ends_the_call() -> None:
    watched = Watched()
    watched.configure()
    watched.wait(ATTACH_TIMEOUT_S)
    assert reason(watched) == "never_attached"
    assert line(watched.actions, messages.CallEnded).duration_ms == 0
    assert "HangUpLeg" not in kinds(watched.actions)


def test_a_leg_of_another_format_is_refused_and_changes_nothing() -> None:
    watched = Watched()
    (action,) = watched.feed(events.LegRequested("gw-1", "MZ1", "pcm24k"))
    assert isinstance(action, events.Answer)
    assert isinstance(action.message, messages.Refused)
    assert action.message.code == "format"
    assert watched.call.phone is Phone.RINGING


def test_a_leg_is_listened_to_before_it_is_answered() -> None:
    watched = Watched()
    out = watched.feed(events.LegRequested("gw-1", "MZ1", "pcmu"))
    assert kinds(out) == ["ListenLeg", "Answer", "Save"]


def test_audio_is_played_only_once_the_gateway_listens() -> None:
    watched = Watched()
    watched.feed(events.LegRequested("gw-1", "MZ1", "pcmu"))
    watched.configure()
    out = watched.feed(
        events.ResponseStarted("r1", ""), events.AudioReceived("r2", "i2", bytes(800))
    )
    assert played_ms(out) == 0
    assert watched.call.dropped_audio_ms == 100


def test_a_leg_that_never_starts_is_given_up() -> None:
    watched = Watched()
    watched.feed(events.LegRequested("gw-1", "MZ1", "pcmu"))
    watched.wait(START_TIMEOUT_S)
    assert watched.call.phone is Phone.DETACHED
    watched.wait(REATTACH_TIMEOUT_S)
    assert reason(watched) == "caller_lost"
    assert "HangUpLeg" in kinds(watched.actions), "a gateway that was only slow lets go as well"


# --- voice both ways -----------------------------------------------------------------------------


def test_an_answer_is_played_with_a_mark_every_200_ms_and_told_when_heard() -> None:
    watched = Watched().talking()
    watched.feed(
        events.SpeechStarted("u1"), events.SpeechStopped("u1"), events.ResponseStarted("r1", "")
    )
    watched.listen(0.25)
    out = watched.say("r1", "i1", 1000)
    assert played_ms(out) == 1000
    assert len(names(out)) == 7  # the beginning, each 200 ms, the end
    started = line(out, messages.AgentStartedSpeaking)
    assert (started.after, started.latency_ms) == ("caller", 250)
    watched.listen(1.0)
    assert line(watched.play_out(), messages.AgentFinishedSpeaking).heard_ms == 1000


def test_the_greeting_is_timed_from_the_moment_the_phone_listens() -> None:
    watched = Watched()
    watched.configure()
    watched.attach()
    watched.listen(0.3)
    watched.feed(events.ResponseStarted("r1", "greeting"))
    started = line(watched.say("r1", "i1", 100), messages.AgentStartedSpeaking)
    assert (started.after, started.latency_ms) == ("greeting", 300)


def test_what_both_said_is_told() -> None:
    watched = Watched().talking()
    out = watched.feed(events.CallerTranscript("u1", " Hi there. ", Tokens(), 2.0))
    assert line(out, messages.Transcript).text == "Hi there."
    assert line(watched.actions, messages.Transcript).who == "caller"


def test_silence_is_no_turn_of_the_callers() -> None:
    watched = Watched().talking()
    assert told(watched.feed(events.CallerTranscript("u1", "  ", Tokens(), 0.0))) == []


def test_a_key_is_told() -> None:
    watched = Watched().talking()
    out = watched.feed(events.DtmfPressed(1, "5"))
    assert line(out, messages.KeyPressed).digit == "5"


def test_what_a_replaced_leg_still_says_is_ignored() -> None:
    watched = Watched().talking()
    watched.attach()
    assert watched.call.record.leg == 2
    late = (
        events.DtmfPressed(1, "5"),
        events.LegStopped(1),
        events.LegLost(1, ""),
        events.LegStarted(1),
    )
    assert watched.feed(*late) == []
    assert watched.call.phone is Phone.TALKING


# --- barge-in ------------------------------------------------------------------------------------


def test_barge_in_while_generating_clears_the_phone_and_cuts_at_what_was_heard() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000, done=False)
    watched.listen(1.0)
    out = watched.feed(events.SpeechStarted("u1"))
    assert kinds(out)[:2] == ["Tell", "PlayClear"]
    assert sent(out) == [
        {
            "type": "conversation.item.truncate",
            "item_id": "i1",
            "content_index": 0,
            "audio_end_ms": 1000,
        }
    ]
    cut = line(out, messages.Interrupted)
    assert (cut.item, cut.heard_ms, cut.sent_ms) == ("i1", 1000, 3000)


def test_barge_in_when_the_response_is_done_but_still_heard_cuts_as_well() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000)
    watched.feed(events.AgentTranscript("r1", "i1", "We are open from nine to five.", final=True))
    watched.listen(1.5)
    out = watched.feed(events.SpeechStarted("u1"))
    assert "PlayClear" in kinds(out)
    assert [one["audio_end_ms"] for one in sent(out)] == [1500]
    assert line(out, messages.Interrupted).text == "We are open"


def test_barge_in_with_a_second_item_queued_cuts_that_one_at_nothing() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.feed(
        events.AudioReceived("r1", "i1", bytes(8000)),
        events.AudioCompleted("r1", "i1"),
        events.AudioReceived("r1", "i2", bytes(8000)),
    )
    watched.listen(0.4)
    out = watched.feed(events.SpeechStarted("u1"))
    assert [(one["item_id"], one["audio_end_ms"]) for one in sent(out)] == [("i1", 400), ("i2", 0)]


def test_barge_in_when_everything_was_heard_sends_nothing() -> None:
    watched = Watched().talking()
    out = watched.feed(events.SpeechStarted("u1"))
    assert kinds(out) == ["Tell"]


def test_barge_in_never_cancels_because_the_service_does() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000, done=False)
    assert sent(watched.feed(events.SpeechStarted("u1")), "response.cancel") == []


def test_late_audio_of_an_interrupted_response_is_dropped() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000, done=False)
    watched.listen(0.5)
    watched.feed(events.SpeechStarted("u1"))
    late = events.AudioReceived("r1", "i1", bytes(1600))
    assert watched.feed(late, finished("r1", "cancelled", "turn_detected"), late) == []


def test_audio_after_a_cut_is_dropped_although_its_response_was_done() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000)
    watched.listen(0.5)
    watched.feed(events.SpeechStarted("u1"))
    assert watched.feed(events.AudioReceived("r1", "i1", bytes(1600))) == []


def test_the_next_response_may_begin_before_the_old_one_is_done() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000, done=False)
    watched.feed(
        events.SpeechStarted("u1"), events.SpeechStopped("u1"), events.ResponseStarted("r2", "")
    )
    watched.feed(finished("r1", "cancelled", "turn_detected"))
    assert played_ms(watched.say("r2", "i2", 500)) == 500


def test_marks_returned_by_the_clear_do_not_count_as_heard() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    out = watched.say("r1", "i1", 3000)
    watched.listen(0.5)
    watched.feed(events.SpeechStarted("u1"))
    assert watched.feed(*[events.MarkReturned(1, name) for name in names(out)]) == []


def test_the_words_of_a_cut_item_are_told_as_far_as_they_were_heard() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 2000, done=False)
    watched.listen(1.0)
    watched.feed(events.SpeechStarted("u1"))
    out = watched.feed(events.AgentTranscript("r1", "i1", "one two three four", final=True))
    said = line(out, messages.Transcript)
    assert (said.text, said.interrupted) == ("one two", True)


def test_words_that_were_never_sent_as_audio_are_not_told() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""), events.SpeechStarted("u1"))
    assert watched.feed(events.AgentTranscript("r1", "i1", "one two", final=True)) == []


# --- responses -----------------------------------------------------------------------------------


def greeting_refused_by_conflict() -> Watched:
    """The caller's first words started a response before our greeting was asked for."""
    watched = Watched()
    watched.configure()
    watched.attach()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.feed(events.ModelErrored("conversation_already_has_active_response", "", "", ""))
    return watched


def test_a_response_refused_because_another_runs_is_asked_for_when_that_one_is_done() -> None:
    watched = greeting_refused_by_conflict()
    assert purposes(watched.feed(finished("r1", "incomplete"))) == ["greeting"]


def test_a_response_is_not_asked_for_again_when_another_one_has_spoken() -> None:
    watched = greeting_refused_by_conflict()
    assert purposes(watched.say("r1", "i1", 500)) == []


def test_nobody_is_greeted_in_mid_talk() -> None:
    watched = greeting_refused_by_conflict()
    watched.say("r1", "i1", 500, done=False)
    assert purposes(watched.feed(finished("r1", "cancelled", "client_cancelled"))) == []


def test_nothing_is_asked_for_while_the_caller_speaks() -> None:
    watched = greeting_refused_by_conflict()
    watched.feed(events.SpeechStarted("u1"))
    assert purposes(watched.feed(finished("r1", "cancelled", "turn_detected"))) == []


def test_a_conflict_with_a_response_that_is_done_already_is_tried_again_soon() -> None:
    watched = Watched()
    watched.configure()
    watched.attach()
    watched.feed(events.ModelErrored("conversation_already_has_active_response", "", "", ""))
    assert purposes(watched.listen(RETRY_WAITS_S[0])) == ["greeting"]


def test_a_failed_response_is_tried_again_and_then_the_call_is_given_up() -> None:
    watched = Watched()
    watched.configure()
    watched.attach()
    for number, wait in enumerate(RETRY_WAITS_S):
        watched.feed(events.ResponseStarted(f"r{number}", "greeting"))
        watched.feed(finished(f"r{number}", "failed", "rate_limit_exceeded", "Slow down"))
        assert line(watched.actions, messages.ModelFailed).effect == "retried"
        assert purposes(watched.listen(wait)) == ["greeting"]
    watched.feed(events.ResponseStarted("last", "greeting"))
    watched.feed(finished("last", "failed", "rate_limit_exceeded", "Slow down"))
    assert reason(watched) == "model_unavailable"
    assert watched.call.next_timer() is None


def test_a_retry_is_dropped_when_the_caller_speaks_meanwhile() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""), finished("r1", "failed", "server_error"))
    watched.feed(events.SpeechStarted("u1"), events.SpeechStopped("u1"))
    watched.feed(events.ResponseStarted("r2", ""))
    watched.say("r2", "i2", 200)
    assert purposes(watched.listen(10.0)) == []


def test_the_last_piece_of_a_failed_response_is_played_before_the_call_ends() -> None:
    watched = Watched().talking()
    for number in range(len(RETRY_WAITS_S)):
        watched.feed(finished(f"r{number}", "failed", "server_error"))
    watched.feed(events.AudioReceived("last", "i1", b"\x01"))  # less than a frame
    out = kinds(watched.feed(finished("last", "failed", "server_error")))
    assert out.index("PlayAudio") < out.index("Save") < out.index("Finish")


def test_an_account_without_money_ends_the_call_at_once() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""), finished("r1", "failed", "insufficient_quota"))
    assert reason(watched) == "model_unavailable"


def test_a_refused_request_is_tried_again() -> None:
    watched = Watched()
    watched.configure()
    watched.attach()
    created = watched.rules.created
    assert created is not None
    watched.feed(events.ModelErrored("server_error", "Oops", "", created["event_id"]))
    assert purposes(watched.listen(RETRY_WAITS_S[0])) == ["greeting"]


def test_a_response_without_a_sign_of_life_costs_the_socket() -> None:
    watched = Watched()
    watched.configure()
    watched.attach()
    watched.listen(STALL_TIMEOUT_S)
    assert line(watched.actions, messages.ModelFailed).code == "response_stalled"
    assert watched.call.model is not Model.READY


def test_an_answer_that_never_comes_costs_the_socket_also_after_a_late_done() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.feed(
        events.SpeechStarted("u1"),
        events.SpeechStopped("u1"),
        finished("r1", "cancelled", "turn_detected"),
    )
    watched.listen(STALL_TIMEOUT_S)
    assert line(watched.actions, messages.ModelFailed).code == "response_stalled"


def test_a_quiet_caller_costs_nothing() -> None:
    watched = Watched().talking()
    watched.listen(600)
    assert "model_failed" not in told(watched.actions)


def test_harmless_errors_are_told_and_survived() -> None:
    watched = Watched().talking()
    out = watched.feed(
        events.ModelErrored("response_cancel_not_active", "", "", ""),
        events.ModelErrored("invalid_value", "", "audio_end_ms", ""),
        events.ModelErrored("brand_new_code", "", "", ""),
    )
    assert {one.effect for one in failures(out)} == {"ignored"}
    assert watched.call.phone is Phone.TALKING


def failures(actions: list[events.Action]) -> list[messages.ModelFailed]:
    lines = [one.event for one in actions if isinstance(one, events.Tell)]
    return [one for one in lines if isinstance(one, messages.ModelFailed)]


def test_the_second_internal_error_of_a_session_costs_its_socket() -> None:
    watched = Watched().talking()
    oops = events.ModelErrored("server_error", "", "", "")
    assert "CloseModel" not in kinds(watched.feed(oops))
    assert "CloseModel" in kinds(watched.feed(oops))


# --- the model's socket is lost ------------------------------------------------------------------


def test_a_lost_socket_is_dialled_again_at_once_and_the_caller_is_kept_meanwhile() -> None:
    watched = Watched().talking()
    out = watched.feed(events.ModelClosed(1006, "cut"))
    assert kinds(out) == ["CloseUplink", "Tell", "CloseModel"]
    assert kinds(watched.listen(0.0)) == ["DialModel"]


def test_the_conversation_is_told_to_a_new_session_as_far_as_it_was_heard() -> None:
    watched = Watched().talking()
    watched.feed(events.SpeechStarted("u1"), events.SpeechStopped("u1"))
    watched.feed(events.ResponseStarted("r1", ""))
    watched.feed(events.CallerTranscript("u1", "When are you open?", Tokens(), 0.0))
    watched.say("r1", "i1", 2000)
    watched.feed(events.AgentTranscript("r1", "i1", "From nine to five each day.", final=True))
    watched.listen(1.0)
    watched.feed(events.SpeechStarted("u2"), events.SpeechStopped("u2"))
    watched.feed(events.CallerTranscript("u2", "Stop.", Tokens(), 0.0))
    watched.feed(events.ModelClosed(1006, "cut"))
    watched.listen(0.0)
    out = watched.configure()
    items = [one["item"] for one in sent(out, "conversation.item.create")]
    assert [
        (one["role"], one["content"][0]["type"], one["content"][0]["text"]) for one in items
    ] == [
        ("system", "input_text", RESUME_NOTE),
        ("assistant", "output_text", "Hello there."),
        ("user", "input_text", "When are you open?"),
        ("assistant", "output_text", "From nine to"),
        ("user", "input_text", "Stop."),
    ]


def test_a_question_that_was_not_answered_is_answered_by_the_new_session() -> None:
    watched = Watched().talking()
    watched.feed(events.SpeechStarted("u1"), events.SpeechStopped("u1"))
    watched.feed(events.CallerTranscript("u1", "Hi?", Tokens(), 0.0))
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(0.0)
    assert purposes(watched.configure()) == ["resume"]


def test_a_caller_who_was_cut_off_in_mid_sentence_is_not_left_in_silence() -> None:
    watched = Watched().talking()
    watched.feed(events.SpeechStarted("u1"), events.ModelClosed(1006, ""))
    watched.listen(0.0)
    assert purposes(watched.configure()) == ["resume"]


def test_after_a_quiet_loss_nobody_speaks_and_nobody_is_greeted_again() -> None:
    watched = Watched().talking()
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(0.0)
    assert purposes(watched.configure()) == []
    assert watched.rules.uplink


def test_a_greeting_that_nobody_heard_is_asked_for_again() -> None:
    watched = Watched()
    watched.configure()
    watched.attach()
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(REDIAL_WAITS_S[1])
    assert purposes(watched.configure()) == ["greeting"]


def test_what_was_generated_before_the_loss_is_still_heard() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 2000, done=False)
    out = watched.feed(events.ModelClosed(1006, ""))
    assert "PlayClear" not in kinds(out)
    watched.listen(2.0)
    assert line(watched.play_out(), messages.AgentFinishedSpeaking).heard_ms == 2000


def test_an_item_of_the_lost_session_is_cut_without_a_word_to_the_new_one() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 5000, done=False)
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(0.0)
    watched.configure()
    out = watched.feed(events.SpeechStarted("u1"))
    assert "PlayClear" in kinds(out)
    assert sent(out, "conversation.item.truncate") == []


def test_a_model_that_cannot_be_reached_is_given_up_after_the_last_try() -> None:
    watched = Watched()
    watched.attach()
    for number in range(1, len(REDIAL_WAITS_S)):
        watched.feed(events.ModelClosed(0, "refused"))
        assert kinds(watched.listen(REDIAL_WAITS_S[number])) == ["DialModel"]
    watched.feed(events.ModelClosed(0, "refused"))
    assert reason(watched) == "model_unavailable"
    assert [one.effect for one in failures(watched.actions)] == ["redialled"] * 4 + ["ended"]


def test_a_session_that_dies_before_it_ever_speaks_counts_as_a_failed_try() -> None:
    watched = Watched()
    watched.attach()
    for number in range(1, len(REDIAL_WAITS_S)):
        watched.configure()
        watched.feed(events.ModelClosed(1011, ""))
        watched.listen(REDIAL_WAITS_S[number])
    watched.configure()
    watched.feed(events.ModelClosed(1011, ""))
    assert reason(watched) == "model_unavailable"


def test_a_finished_response_makes_up_for_the_losses_before_it() -> None:
    watched = Watched().talking()
    for number in range(20):
        watched.feed(events.ModelClosed(1006, ""))
        watched.listen(0.0)
        watched.configure()
        watched.feed(events.ResponseStarted(f"r{number}", ""))
        watched.say(f"r{number}", f"i{number}", 20)
    assert watched.call.phone is Phone.TALKING


def test_a_model_that_does_not_configure_in_time_is_dialled_again() -> None:
    watched = Watched()
    watched.attach()
    watched.feed(events.SessionCreated())
    watched.listen(CONFIGURE_TIMEOUT_S)
    assert line(watched.actions, messages.ModelFailed).code == "configure_timeout"


def test_a_wrong_key_or_model_is_not_tried_again() -> None:
    for code, closing in (("invalid_api_key", 3000), ("invalid_model", 4000)):
        for event in (
            events.ModelErrored(code, "no", "", ""),
            events.ModelClosed(closing, f"invalid_request_error.{code}"),
        ):
            watched = Watched()
            watched.attach()
            watched.feed(event)
            assert reason(watched) == "model_unavailable"
            assert code in line(watched.actions, messages.CallEnded).detail


def test_a_session_at_its_60_minutes_is_replaced_and_the_close_that_follows_is_ignored() -> None:
    watched = Watched().talking()
    watched.feed(events.ModelErrored("session_expired", "60 minutes", "", ""))
    assert watched.feed(events.ModelClosed(1001, "60 minutes")) == []
    watched.listen(0.0)
    watched.configure()
    assert watched.call.model is Model.READY
    assert watched.rules.uplink


# --- the phone's socket is lost ------------------------------------------------------------------


def test_a_lost_phone_may_come_back_and_the_agent_finishes_what_it_owes() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000, done=False)
    watched.listen(1.0)
    out = watched.feed(events.LegLost(1, "closed"))
    assert [one["type"] for one in sent(out)] == ["response.cancel", "conversation.item.truncate"]
    assert "PlayClear" not in kinds(out)
    watched.feed(finished("r1", "cancelled", "client_cancelled"))
    out = watched.attach()
    assert "MoveLeg" in kinds(out)
    assert purposes(out) == ["resume"]
    assert "leg_replaced" in told(out)


def test_a_phone_that_does_not_come_back_ends_the_call() -> None:
    watched = Watched().talking()
    watched.feed(events.LegLost(1, "closed"))
    watched.wait(REATTACH_TIMEOUT_S)
    assert reason(watched) == "caller_lost"


def test_a_phone_that_sends_no_audio_is_lost() -> None:
    watched = Watched().talking()
    watched.wait(LINE_TIMEOUT_S)
    assert watched.call.phone is Phone.DETACHED
    assert line(watched.actions, messages.LegDropped).reason == "no audio from the phone"


def test_nothing_is_said_while_nobody_listens() -> None:
    watched = Watched().talking()
    watched.feed(events.LegLost(1, "closed"))
    out = watched.feed(events.ResponseStarted("r1", ""))
    assert sent(out) == [{"type": "response.cancel", "response_id": "r1"}]
    assert purposes(watched.feed(finished("r1", "failed", "server_error"))) == []
    assert purposes(watched.wait(RETRY_WAITS_S[0])) == []
    assert purposes(watched.attach()) == ["resume"]


def test_a_second_socket_replaces_the_first_one_and_old_marks_do_not_count() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    out = watched.say("r1", "i1", 3000)
    watched.attach()
    assert watched.call.record.leg == 2
    assert watched.feed(*[events.MarkReturned(2, name) for name in names(out)]) == []


def test_a_phone_that_was_quiet_comes_back_to_quiet() -> None:
    watched = Watched().talking()
    watched.feed(events.LegLost(1, "closed"))
    out = watched.attach()
    assert purposes(out) == []
    assert watched.rules.uplink


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (events.LegStopped(1), "caller_hung_up"),
        (events.HangUpRequested("operator"), "operator"),
        (events.WorkerStopping(), "worker_stopped"),
    ],
)
def test_the_end_closes_both_sides_saves_first_and_tells_once(
    event: events.PhoneEvent, expected: str
) -> None:
    watched = Watched().talking()
    out = watched.feed(event)
    assert kinds(out) == ["CloseUplink", "CloseModel", "Save", "HangUpLeg", "Tell", "Finish"]
    assert reason(watched) == expected
    assert watched.call.record.ended_at is not None


def test_the_longest_call_ends() -> None:
    watched = Watched(AgentSettings(max_call_s=60)).talking()
    watched.listen(60)
    assert reason(watched) == "max_duration"
    assert line(watched.actions, messages.CallEnded).duration_ms == 60_000


def test_what_was_still_queued_at_the_end_counts_as_unheard() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.say("r1", "i1", 3000)
    watched.listen(1.0)
    out = watched.feed(events.LegStopped(1))
    assert line(out, messages.Interrupted).heard_ms == 1000
    assert sent(out) == []


def test_a_call_that_another_worker_owns_is_let_go_without_a_word() -> None:
    watched = Watched().talking()
    assert kinds(watched.feed(events.OwnershipLost())) == ["CloseUplink", "CloseModel", "Finish"]


def test_a_leg_asked_for_after_the_end_is_refused() -> None:
    watched = Watched().talking()
    watched.feed(events.LegStopped(1))
    (action,) = watched.feed(events.LegRequested("gw-1", "MZ1", "pcmu"))
    assert isinstance(action, events.Answer)
    assert isinstance(action.message, messages.Refused)
    assert action.message.code == "ended"


def test_the_bill_adds_up_in_the_last_line() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.feed(finished("r1", tokens=Tokens(text_in=1000, audio_in=100, audio_out=50)))
    usage = line(watched.actions, messages.UsageReported)
    assert usage.cost_usd == pytest.approx(0.004 + 0.0032 + 0.0032)
    watched.feed(events.LegStopped(1))
    ended = line(watched.actions, messages.CallEnded)
    assert ended.cost_usd == pytest.approx(0.0104)
    assert ended.tokens == Tokens(text_in=1000, audio_in=100, audio_out=50)


# --- what is illegal -----------------------------------------------------------------------------


def test_an_illegal_event_of_ours_is_a_bug_and_one_of_the_vendors_a_surprise() -> None:
    watched = Watched()
    with pytest.raises(LocalError, match="LegStarted while the phone is ringing"):
        watched.call.handle(events.LegStarted(1), watched.now)
    with pytest.raises(RemoteError, match="SpeechStarted while the model is dialling"):
        watched.call.handle(events.SpeechStarted("u1"), watched.now)


def test_a_timer_that_another_one_has_started_anew_does_not_fire_early() -> None:
    watched = Watched()
    watched.configure()
    watched.attach()
    watched.feed(events.ResponseStarted("r1", "greeting"), finished("r1", "failed", "server_error"))
    watched.feed(events.SpeechStopped("u1"))
    # Retry and stall are both due, and the first of them starts the second one anew.
    assert purposes(watched.freeze(STALL_TIMEOUT_S + 1)) == ["greeting"]
    assert watched.call.model is Model.READY
