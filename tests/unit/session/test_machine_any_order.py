"""The rules that no order of events may break: `watched.Rules`, under any events and timers."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from services.session import events
from services.session.events import ModelEvent, PhoneEvent
from services.session.leaving import FAREWELL_LIMIT_S, KEYS_LIMIT_S, PHONE_UPDATE_LIMIT_S
from services.session.line import (
    ATTACH_TIMEOUT_S,
    AWAY_TIMEOUT_S,
    REATTACH_TIMEOUT_S,
    START_TIMEOUT_S,
)
from services.session.states import Phone
from shared.messages import Tokens
from tests.unit.session.watched import ABLE, Watched, finished, names

pytestmark = pytest.mark.unit

#: The slowest way to the end when nothing comes any more: a silent line, then nobody comes back.
GONE_S = max(ATTACH_TIMEOUT_S, START_TIMEOUT_S + REATTACH_TIMEOUT_S + KEYS_LIMIT_S, AWAY_TIMEOUT_S)

#: The longest that an output can be awaited: a farewell, Twilio's answer, keys.
LONGEST_TOOL_S = FAREWELL_LIMIT_S + PHONE_UPDATE_LIMIT_S + KEYS_LIMIT_S

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

NAMES = st.sampled_from(
    ["lookup", "lookup", "search", "hushed", "nobody", "end_call", "transfer_call", "send_dtmf"]
)
WRITTEN = st.sampled_from(
    ["{}", "{}", '{"to": "front desk"}', '{"digits": "1w"}', '{"to": "else"}', "[]", "{", "NaN", ""]
)

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
    # How many calls ago: 0 is a new one.
    "call": st.tuples(RESPONSES, st.sampled_from([0, 0, 0, 1]), NAMES, WRITTEN),
    "tool": st.tuples(st.integers(0, 3), st.sampled_from(["", "", "timeout", "boom"])),
    "taken": st.integers(0, 3),
    "music": st.sampled_from(["", "", "unavailable"]),
    "updated_phone": st.tuples(st.sampled_from(["transfer", "digits"]), st.booleans()),
    "back": st.sampled_from(["", "dial:no-answer"]),
    # Repaired in the same step.
    "redialled": st.sampled_from([0, 1001, 1006]),  # 0: at once, else after some 3 s
    "came_back": st.booleans(),
    # Whole turns: without them, music and transfers are rarely reached.
    "tool_turn": st.lists(NAMES, min_size=1, max_size=3),
    "spoken": st.integers(0, 3000),
    "silence": WAITS,
    "moved": st.sampled_from(["", "dial:busy"]),
}
GOOD = {"transfer_call": '{"to": "front desk"}', "send_dtmf": '{"digits": "1"}'}


def steps_of(*kinds: str) -> st.SearchStrategy[tuple[str, Any]]:
    return st.one_of([st.tuples(st.just(kind), ARGUMENTS[kind]) for kind in kinds])


STEP = steps_of(*ARGUMENTS)
#: Calls that go on: nothing in it ends one but failures in a row.
TALK = steps_of(
    *("begin", "answer", "audio", "audio", "audio_done", "speech", "speech", "text", "mark"),
    *("heard_caller", "done", "done", "error", "listen", "listen", "redialled", "came_back"),
    *("call", "call", "tool", "tool", "taken", "music", "updated_phone", "back"),
    *("tool_turn", "tool_turn", "spoken", "spoken", "silence", "silence", "moved"),
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
            watched.listen(what / 300)  # sometimes too early
            watched.configure()
        case "came_back":
            if what:
                watched.feed(event_of(watched, "lost", 0))
            watched.attach()
        case "tool_turn" | "spoken" | "silence" | "moved":
            do_turn(watched, kind, what)
        case _:
            watched.feed(event_of(watched, kind, what))


def do_turn(watched: Watched, kind: str, what: Any) -> None:
    """Several events in their usual order."""
    match kind:
        case "tool_turn":
            watched.responses += 1
            calls = [(f"c{len(watched.rules.called) + n}", name) for n, name in enumerate(what)]
            identity = response(watched, 0)
            watched.feed(events.SpeechStarted("u1"), events.SpeechStopped("u1"))
            watched.feed(events.ResponseStarted(identity, ""))
            for call_id, name in calls:
                written = GOOD.get(name, "{}")
                watched.feed(events.FunctionCalled(identity, call_id, name, written))
            watched.feed(finished(identity))
        case "spoken" if watched.rules.created is not None:
            watched.responses += 1
            watched.answer_asked(response(watched, 0), what)
        case "silence":
            watched.listen(what)
            watched.play_out()
            watched.listen(what)
        case "moved":
            leg = watched.call.record.leg
            watched.feed(
                events.PhoneUpdated(leg, "transfer", True, "", ""),
                events.PhoneUpdated(leg, "digits", True, "", ""),
            )
            if watched.rules.moving:
                watched.feed(events.LegStopped(leg))
            watched.listen(1.0)
            watched.feed(events.LegRequested("gw-1", "MZ1", "pcmu", what))
            watched.feed(events.LegStarted(watched.call.record.leg))
            watched.listen(1.0)
            watched.configure()
        case _:
            pass  # nothing was asked for


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
        case "call":
            ago, again, name, arguments = what
            identity = f"c{max(0, len(watched.rules.called) - again)}"
            return events.FunctionCalled(response(watched, ago), identity, name, arguments)
        case "tool":
            known = list(watched.rules.called) or ["c0"]
            ago, error = what
            return events.ToolFinished(known[-1 - ago % len(known)], '{"temp": 7}', error)
        case "taken":
            known = list(watched.rules.outputs) or ["c0"]
            return events.OutputTaken(known[-1 - what % len(known)])
        case "music":
            return events.MusicAnswered(watched.rules.holds, "bossa", "store", None, what)
        case "updated_phone":
            return events.PhoneUpdated(leg, what[0], what[1], "", "")
        case "back":
            return events.LegRequested("gw-1", "MZ1", "pcmu", what)
        case "done":
            ago, status, code = what
            return finished(response(watched, ago), status, code, tokens=Tokens(audio_out=5))
        case "error":
            asked = watched.rules.created
            identity = str(asked["event_id"]) if asked and what[1] else ""
            return events.ModelErrored(what[0], "a message", "", identity)
        case _:
            return events.ModelClosed(what, "closed")


@settings(max_examples=120, deadline=None)
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
    watched = Watched(ABLE.model_copy(update={"greeting": greeting}))
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


@settings(max_examples=120, deadline=None)
@given(st.booleans(), st.lists(TALK, min_size=5, max_size=60))
def test_a_conversation_in_any_order_breaks_no_rule(
    greeted: bool, steps: list[tuple[str, Any]]
) -> None:
    watched = Watched(ABLE)
    if greeted:
        watched.talking()
    else:
        watched.configure()
        watched.attach()
    for kind, what in steps:
        do(watched, kind, what)
    if set(watched.rules.called) != watched.rules.answered:
        watched.listen(LONGEST_TOOL_S)
    if watched.call.phone not in (Phone.ENDED, Phone.AWAY):
        assert set(watched.rules.called) == watched.rules.answered, "a call without an output"
    watched.feed(events.HangUpRequested("operator"))
    assert watched.call.phone is Phone.ENDED
