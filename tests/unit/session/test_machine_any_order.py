"""The rules that no order of events may break: `watched.Rules`, under any events and timers."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from services.session import events
from services.session.events import ModelEvent, PhoneEvent
from services.session.line import ATTACH_TIMEOUT_S, REATTACH_TIMEOUT_S, START_TIMEOUT_S
from services.session.states import Phone
from shared.messages import AgentSettings, Tokens
from tests.unit.session.watched import Watched, finished, names

pytestmark = pytest.mark.unit

#: The slowest way to the end when nothing comes any more: a silent line, then nobody comes back.
GONE_S = max(ATTACH_TIMEOUT_S, START_TIMEOUT_S + REATTACH_TIMEOUT_S, 5.0 + REATTACH_TIMEOUT_S)

#: How many responses ago; most often the newest.
RESPONSES = st.sampled_from([0, 0, 0, 0, 1, 2])
ITEMS = st.sampled_from([0, 0, 0, 1])
CODES = st.sampled_from(
    [
        "conversation_already_has_active_response",
        "response_cancel_not_active",
        "rate_limit_exceeded",
        "server_error",
        "session_expired",
        "invalid_value",
        "unknown",
        "insufficient_quota",
    ]
)
WAITS = st.sampled_from([0.0, 0.02, 0.3, 0.3, 1.0, 1.0, 4.0, 9.0, 21.0])

#: What to do next: events with what only the running call knows left open, as functions of it.
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "wait": WAITS,
    "listen": WAITS,
    "attach": st.just(0),
    "started": st.integers(0, 1),
    "mark": st.integers(0, 40),
    "dtmf": st.just(0),
    "stopped": st.integers(0, 3),
    "lost": st.integers(0, 1),
    "created": st.just(0),
    "updated": st.just(0),
    "configure": st.just(0),
    "speech": st.booleans(),
    "begin": st.just(0),
    "answer": st.just(0),
    "audio": st.tuples(RESPONSES, ITEMS, st.integers(1, 16000)),
    "audio_done": st.tuples(RESPONSES, ITEMS),
    "text": st.tuples(RESPONSES, ITEMS, st.booleans()),
    "heard_caller": ITEMS,
    "done": st.tuples(
        RESPONSES, st.sampled_from(["completed", "cancelled", "failed", "incomplete"]), CODES
    ),
    "error": st.tuples(CODES, st.booleans()),
    "closed": st.sampled_from([0, 1001, 1006, 1011, 3000]),
    # Repaired in the same step.
    "redialled": st.sampled_from([0, 1001, 1006]),
    "came_back": st.booleans(),
}


def steps_of(*kinds: str) -> st.SearchStrategy[tuple[str, Any]]:
    return st.one_of([st.tuples(st.just(kind), ARGUMENTS[kind]) for kind in kinds])


STEP = steps_of(*ARGUMENTS)
#: Calls that go on: nothing in it ends one but failures in a row.
TALK = steps_of(
    *("begin", "answer", "audio", "audio", "audio_done", "speech", "speech", "text", "mark"),
    *("heard_caller", "done", "done", "error", "listen", "listen", "redialled", "came_back"),
)
FINAL = st.sampled_from(
    [
        events.HangUpRequested("operator"),
        events.WorkerStopping(),
        events.OwnershipLost(),
        events.LegRequested("gw-2", "MZ2", "pcm24k"),
    ]
)


def response(watched: Watched, ago: int) -> str:
    return f"r{max(0, watched.responses - ago)}"


def spoken(watched: Watched, ago: int, item: int) -> tuple[str, str]:
    """A response and one of its items."""
    identity = response(watched, ago)
    return identity, f"{identity}-{item}"


def do(watched: Watched, kind: str, what: Any) -> None:
    match kind:
        case "wait":
            watched.wait(what)
        case "listen":
            watched.listen(what)
        case "configure":
            watched.configure()
        case "redialled":
            watched.feed(events.ModelClosed(what, "closed"))
            watched.responses += 100  # a new session has ids of its own
            watched.listen(0.1)
            watched.configure()
        case "came_back":
            if what:
                watched.feed(event_of(watched, "lost", 0))
            watched.attach()
        case _:
            watched.feed(event_of(watched, kind, what))


def event_of(watched: Watched, kind: str, what: Any) -> PhoneEvent | ModelEvent:  # noqa: C901
    leg = watched.call.record.leg
    match kind:
        case "attach":
            return events.LegRequested("gw-1", "MZ1", "pcmu")
        case "started":
            return events.LegStarted(leg - what)
        case "mark":
            known = names(watched.actions)
            return events.MarkReturned(leg, known[-1 - what] if what < len(known) else "9.9.x.1")
        case "dtmf":
            return events.DtmfPressed(leg, "5")
        case "stopped":
            return events.LegStopped(leg - what)  # rarely the current one: it ends everything
        case "lost":
            return events.LegLost(leg - what, "socket closed")
        case "created":
            return events.SessionCreated()
        case "updated":
            return watched.updated()
        case "speech":
            return events.SpeechStarted("u1") if what else events.SpeechStopped("u1")
        case "begin":
            watched.responses += 1
            return events.ResponseStarted(response(watched, 0), "")
        case "answer":
            watched.responses += 1
            asked = watched.rules.created
            purpose = asked["response"]["metadata"]["purpose"] if asked else ""
            return events.ResponseStarted(response(watched, 0), purpose)
        case "audio":
            return events.AudioReceived(*spoken(watched, what[0], what[1]), bytes(what[2]))
        case "audio_done":
            return events.AudioCompleted(*spoken(watched, *what))
        case "text":
            return events.AgentTranscript(
                *spoken(watched, what[0], what[1]), "some words ", final=what[2]
            )
        case "heard_caller":
            return events.CallerTranscript(f"u{what}", "hello", Tokens(audio_in=3), 0.0)
        case "done":
            ago, status, code = what
            return finished(response(watched, ago), status, code, tokens=Tokens(audio_out=5))
        case "error":
            asked = watched.rules.created
            identity = str(asked["event_id"]) if asked and what[1] else ""
            return events.ModelErrored(what[0], "a message", "", identity)
        case _:
            return events.ModelClosed(what, "closed")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([None, "Greet."]),
    st.booleans(),
    st.lists(STEP, max_size=50),
    st.one_of(st.none(), FINAL),
)
def test_no_order_of_events_breaks_a_rule_and_every_call_ends(
    greeting: str | None,
    begun: bool,
    steps: list[tuple[str, Any]],
    last: PhoneEvent | None,
) -> None:
    watched = Watched(AgentSettings(greeting=greeting))
    if begun:
        watched.configure()
        watched.attach()
    for kind, what in steps:
        do(watched, kind, what)
    if last is not None:
        watched.feed(last)
        if not isinstance(last, events.LegRequested):
            assert watched.call.phone is Phone.ENDED
    # Nothing comes any more, from either side: the call ends by its own timers.
    watched.wait(GONE_S)
    assert watched.call.phone is Phone.ENDED
    assert watched.rules.finished == 1
    # And stays ended.
    for kind, what in steps[:10]:
        do(watched, kind, what)
    watched.wait(100.0)


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.lists(TALK, min_size=5, max_size=60))
def test_a_conversation_in_any_order_breaks_no_rule(
    greeted: bool, steps: list[tuple[str, Any]]
) -> None:
    watched = Watched()
    if greeted:
        watched.talking()
    else:
        watched.configure()
        watched.attach()
    for kind, what in steps:
        do(watched, kind, what)
    watched.feed(events.HangUpRequested("operator"))
    assert watched.call.phone is Phone.ENDED
