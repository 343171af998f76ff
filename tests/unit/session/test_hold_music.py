"""Music while the caller waits, and never otherwise."""

import pytest

from services.session import events
from services.session.holding import REDIAL_PATIENCE_S
from services.session.link import REDIAL_WAITS_S
from services.session.turns import RETRY_WAITS_S
from shared import messages
from shared.messages import AgentSettings
from tests.unit.session.watched import Watched, finished, kinds, line, told

pytestmark = pytest.mark.unit

DELAY_S = AgentSettings().hold_delay_ms / 1000
PLAYS = events.MusicAnswered(1, "bossa", "store", None, "")


def music(actions: list[events.Action]) -> list[str]:
    found = []
    for one in actions:
        if isinstance(one, events.PlayMusic):
            found.append("play")
        elif isinstance(one, events.StopMusic):
            found.append(one.reason)
    return found


def answered(call_id: str = "c1", error: str = "") -> events.ToolFinished:
    return events.ToolFinished(call_id, "{}", error)


def on_hold(agent: AgentSettings | None = None) -> Watched:
    """A tool runs and music plays."""
    watched = Watched(agent).talking()
    watched.turn("r1", ("c1", "lookup"))
    assert music(watched.listen(DELAY_S)) == ["play"]
    watched.feed(PLAYS)
    return watched


# --- when it begins ------------------------------------------------------------------------------


def test_a_fast_tool_makes_no_sound() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.listen(0.05)
    watched.feed(answered())
    watched.answer_asked("r2", 3000)
    watched.listen(10.0)
    assert music(watched.actions) == []


def test_music_begins_exactly_when_the_wait_has_been_long_enough() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    assert music(watched.listen(DELAY_S - 0.001)) == []
    assert music(watched.listen(0.002)) == ["play"]


def test_music_waits_until_the_agent_has_finished_speaking() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.feed(events.AudioReceived("r1", "i1", bytes(3000 * 8)))
    watched.feed(events.FunctionCalled("r1", "c1", "lookup", "{}"))
    watched.feed(events.AudioCompleted("r1", "i1"), finished("r1"))
    assert music(watched.listen(2.999)) == []
    assert music(watched.listen(0.3)) == ["play"]


def test_music_waits_for_a_response_that_still_runs() -> None:
    watched = Watched().talking()
    watched.feed(events.ResponseStarted("r1", ""))
    watched.feed(events.FunctionCalled("r1", "c1", "lookup", "{}"))
    assert music(watched.listen(5.0)) == []
    assert music(watched.feed(finished("r1"))) == ["play"]


@pytest.mark.parametrize(
    ("agent", "tool"),
    [(AgentSettings(hold_music=False), "lookup"), (AgentSettings(), "hushed")],
)
def test_neither_agent_nor_tool_need_have_music(agent: AgentSettings, tool: str) -> None:
    watched = Watched(agent).talking()
    watched.turn("r1", ("c1", tool))
    watched.listen(20.0)
    assert music(watched.actions) == []


def test_the_agents_track_is_asked_for_and_the_story_tells_which_one_plays() -> None:
    watched = Watched(AgentSettings(hold_track="jazz.mp3")).talking()
    watched.turn("r1", ("c1", "lookup"))
    out = watched.listen(DELAY_S)
    assert [one.track for one in out if isinstance(one, events.PlayMusic)] == ["jazz.mp3"]
    out = watched.feed(events.MusicAnswered(1, "default", "built-in", "no such track", ""))
    started = line(out, messages.HoldStarted)
    assert (started.track, started.source, started.fallback) == (
        "default",
        "built-in",
        "no such track",
    )


# --- when it ends --------------------------------------------------------------------------------


def test_music_plays_until_the_first_audio_of_the_answer_and_stops_before_it() -> None:
    watched = on_hold()
    assert music(watched.feed(answered())) == []
    assert music(watched.feed(events.ResponseStarted("r2", "tools"))) == []
    watched.listen(0.8)
    out = watched.feed(events.AudioReceived("r2", "i2", bytes(1600)))
    assert kinds(out).index("StopMusic") < kinds(out).index("PlayAudio")
    ended = line(out, messages.HoldEnded)
    assert (ended.reason, ended.duration_ms) == ("agent", 800)


def test_music_stops_at_the_callers_voice_and_comes_back_when_all_are_silent_again() -> None:
    watched = on_hold()
    assert music(watched.feed(events.SpeechStarted("u2"))) == ["caller"]
    assert music(watched.listen(2.0)) == []
    watched.feed(events.SpeechStopped("u2"), events.ResponseStarted("r2", ""))
    assert music(watched.say("r2", "i2", 1000)) == []
    assert music(watched.listen(0.9)) == []
    assert music(watched.listen(0.4)) == ["play"]


def test_music_does_not_come_back_when_the_tool_has_answered() -> None:
    watched = on_hold()
    watched.feed(events.SpeechStarted("u2"), answered(), events.OutputTaken("c1"))
    watched.feed(events.SpeechStopped("u2"), events.ResponseStarted("r2", ""))
    watched.say("r2", "i2", 1000)
    assert music(watched.listen(10.0)) == []


@pytest.mark.parametrize("event", [events.LegStopped(1), events.HangUpRequested("operator")])
def test_music_stops_at_the_end_of_the_call(event: events.PhoneEvent) -> None:
    out = on_hold().feed(event)
    assert music(out) == ["ended"]
    assert told(out)[-2:] == ["hold_ended", "ended"]


def test_music_stops_when_the_phone_is_lost_and_plays_again_when_it_is_back() -> None:
    watched = on_hold()
    assert music(watched.feed(events.LegLost(1, "closed"))) == ["leg"]
    assert music(watched.wait(2.0)) == []
    assert music(watched.attach()) == ["play"]


def test_music_stops_for_a_socket_that_replaces_the_first_one() -> None:
    watched = on_hold()
    assert music(watched.feed(events.LegRequested("gw-2", "MZ2", "pcmu"))) == ["leg"]


def test_music_stops_when_another_worker_owns_the_call() -> None:
    out = on_hold().feed(events.OwnershipLost())
    assert music(out) == ["ended"]
    assert told(out) == []


@pytest.mark.parametrize("error", ["unavailable", "timeout", "failed"])
def test_music_does_not_hang_on_because_a_tool_failed(error: str) -> None:
    watched = on_hold()
    watched.feed(answered(error=error))
    watched.answer_asked("r2")
    assert music(watched.actions) == ["play", "agent"]
    assert music(watched.listen(20.0)) == []


def test_music_stops_when_the_answer_ends_without_a_sound() -> None:
    watched = on_hold()
    watched.feed(answered(), events.ResponseStarted("r2", "tools"))
    assert music(watched.feed(finished("r2"))) == ["agent"]


def test_music_plays_on_while_a_failed_answer_is_tried_again() -> None:
    watched = on_hold()
    watched.feed(answered(), events.ResponseStarted("r2", "tools"))
    assert music(watched.feed(finished("r2", "failed", "server_error"))) == []
    assert music(watched.listen(RETRY_WAITS_S[0])) == []
    watched.answer_asked("r3")
    assert music(watched.actions) == ["play", "agent"]


def test_music_plays_on_when_one_tool_follows_another() -> None:
    watched = on_hold()
    watched.feed(answered(), events.ResponseStarted("r2", "tools"))
    watched.feed(events.FunctionCalled("r2", "c2", "search", "{}"))
    assert music(watched.feed(finished("r2"))) == []
    watched.feed(answered("c2"))
    watched.answer_asked("r3")
    assert music(watched.actions) == ["play", "agent"]


# --- when it cannot be had -----------------------------------------------------------------------


def test_music_that_cannot_be_had_is_not_asked_for_again_in_this_wait() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.listen(DELAY_S)
    out = watched.feed(events.MusicAnswered(1, "", "", None, "unavailable"))
    assert music(out) == ["failed"]
    assert line(out, messages.HoldEnded).reason == "failed"
    assert music(watched.listen(5.0)) == []
    watched.feed(answered())
    watched.answer_asked("r2")
    watched.listen(2.0)
    # The next wait is another one.
    watched.turn("r3", ("c2", "lookup"))
    assert music(watched.listen(DELAY_S)) == ["play"]


def test_an_answer_about_music_that_was_stopped_meanwhile_changes_nothing() -> None:
    watched = Watched().talking()
    watched.turn("r1", ("c1", "lookup"))
    watched.listen(DELAY_S)
    watched.feed(events.SpeechStarted("u2"))
    assert watched.feed(PLAYS) == []


# --- the model is lost ---------------------------------------------------------------------------


def test_a_quick_redial_makes_no_sound() -> None:
    watched = Watched().talking()
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(1.0)
    watched.configure()
    watched.listen(10.0)
    assert music(watched.actions) == []


def test_a_model_that_is_lost_for_longer_is_covered_by_music_until_it_is_back() -> None:
    watched = Watched().talking()
    watched.feed(events.ModelClosed(1006, ""))
    assert music(watched.listen(REDIAL_PATIENCE_S - 0.001)) == []
    assert music(watched.listen(0.002)) == ["play"]
    # Nothing was left to say: silence, as before.
    assert music(watched.configure()) == ["agent"]


def test_the_wait_for_a_model_counts_from_its_loss_and_not_from_the_last_failed_dial() -> None:
    watched = Watched().talking()
    watched.feed(events.ModelClosed(1006, ""))
    waited = 0.0
    for wait in REDIAL_WAITS_S[1:3]:
        watched.listen(0.0)
        watched.feed(events.ModelClosed(0, "refused"))
        watched.listen(wait)
        waited += wait
    assert waited == REDIAL_PATIENCE_S
    assert music(watched.actions) == ["play"]


def test_music_covers_the_pause_until_the_new_session_has_spoken() -> None:
    watched = Watched().talking()
    watched.feed(events.SpeechStarted("u1"), events.SpeechStopped("u1"))
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(REDIAL_PATIENCE_S)
    watched.configure()
    assert music(watched.actions) == ["play"]
    watched.answer_asked("r2")
    assert music(watched.actions) == ["play", "agent"]


def test_a_model_that_was_never_there_is_not_covered() -> None:
    watched = Watched()
    watched.attach()
    watched.feed(events.ModelClosed(1006, ""))
    watched.listen(5.0)
    assert music(watched.actions) == []
