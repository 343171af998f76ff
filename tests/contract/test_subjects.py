"""Subjects: nothing but safe tokens gets into one, and they are spelled as they always were."""

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from shared import subjects
from shared.subjects import UnsafeTokenError

pytestmark = pytest.mark.contract

CALL = "CA0123456789abcdef0123456789abcdef"
BROWSER = "BR0123456789abcdef0123456789abcdef"

#: What might come from outside: text with what NATS gives a meaning to, and other types.
ANYTHING = st.one_of(
    st.text(alphabet="CABR0123456789abcdef.*> \n\r\t\x00$_-é", max_size=40),
    st.text(max_size=40),
    st.from_regex(subjects.CALL_ID),
    st.integers(),
    st.booleans(),
    st.none(),
    st.binary(max_size=5),
)
BUILDERS: list[Callable[[object, object], str]] = [
    lambda call, _: subjects.command(call),  # type: ignore[arg-type]
    lambda call, leg: subjects.up(call, leg),  # type: ignore[arg-type]
    lambda call, kind: subjects.up(call, 1, kind),  # type: ignore[arg-type]
    lambda call, epoch: subjects.down(call, epoch),  # type: ignore[arg-type]
    lambda call, name: subjects.event(call, name),  # type: ignore[arg-type]
    lambda worker, _: subjects.beat(worker),  # type: ignore[arg-type]
    lambda service, level: subjects.log(service, level),  # type: ignore[arg-type]
]


@given(st.sampled_from(BUILDERS), ANYTHING, ANYTHING)
def test_nothing_but_safe_tokens_gets_into_a_subject(
    build: Callable[[object, object], str], first: object, second: object
) -> None:
    try:
        subject = build(first, second)
    except UnsafeTokenError:
        return
    tokens = subject.split(".")
    # A wildcard only where we ask for one ourselves, as the last token of a stream.
    if tokens[-1] == "*":
        assert tokens[-3] in ("up", "down")
        tokens.pop()
    assert all(subjects.TOKEN.fullmatch(token) for token in tokens)


@given(ANYTHING, ANYTHING)
def test_a_subject_belongs_to_the_call_it_was_made_for(call: object, name: object) -> None:
    try:
        subject = subjects.event(call, name)  # type: ignore[arg-type]
    except UnsafeTokenError:
        return
    assert subject == f"call.{call}.event.{name}"
    assert subject.count(".") == 3


@pytest.mark.parametrize(
    "call",
    [
        "",
        "CA" + "g" * 32,
        "CA" + "A" * 32,
        "CA" + "0" * 31,
        "CA" + "0" * 33,
        "XX" + "0" * 32,
        CALL + "\n",
        "*",
        ">",
        CALL + ".event",
        None,
        5,
        CALL.encode(),
    ],
)
def test_what_is_no_call_id_is_refused(call: object) -> None:
    assert not subjects.is_call_id(call)
    with pytest.raises(UnsafeTokenError, match="call id"):
        subjects.command(call)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [-1, True, False, 1.0, "1", None])
def test_what_is_no_number_is_refused(number: object) -> None:
    with pytest.raises(UnsafeTokenError):
        subjects.up(CALL, number)  # type: ignore[arg-type]
    with pytest.raises(UnsafeTokenError):
        subjects.down(CALL, number)  # type: ignore[arg-type]


def test_a_refusal_shows_no_more_than_a_line_of_what_was_refused() -> None:
    with pytest.raises(UnsafeTokenError) as caught:
        subjects.command("x" * 10_000)
    assert len(str(caught.value)) < 150


def test_subjects_are_spelled_as_they_always_were() -> None:
    assert subjects.OFFER == "calls.offer"
    assert subjects.WORKERS == "session"
    assert subjects.command(CALL) == f"call.{CALL}.cmd"
    assert subjects.up(BROWSER, 2, "audio") == f"call.{BROWSER}.up.2.audio"
    assert subjects.up(CALL, 1) == f"call.{CALL}.up.1.*"
    assert subjects.down(CALL, 3, "ctl") == f"call.{CALL}.down.3.ctl"
    assert subjects.event(CALL, "model_ready") == f"call.{CALL}.event.model_ready"
    assert subjects.beat("w-7f3a") == "session.w-7f3a.beat"
    assert subjects.log("gateway", "info") == "log.gateway.info"
    assert subjects.ALL_EVENTS == "call.*.event.>"
