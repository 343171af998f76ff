"""One response at a time, told apart by id."""

import pytest

from services.session.responses import MUTED_LIMIT, Responses

pytestmark = pytest.mark.unit


def test_a_second_request_waits_for_the_first_response() -> None:
    responses = Responses()
    assert responses.may_ask("greeting")
    responses.asked("greeting", "sb_1")
    assert not responses.may_ask("resume")
    responses.started("r1", "greeting")
    assert responses.purpose("r1") == "greeting"
    assert responses.finished("r1")
    assert responses.take_wanted() == "resume"
    assert responses.take_wanted() is None
    assert not responses.busy


def test_a_response_of_voice_detection_leaves_our_request_open() -> None:
    responses = Responses()
    responses.asked("greeting", "sb_1")
    responses.started("r1", "")
    responses.put_off()
    assert responses.finished("r1")
    assert responses.take_wanted() == "greeting"


def test_the_end_of_an_old_response_is_not_the_end_of_the_new_one() -> None:
    responses = Responses()
    responses.started("r1", "")
    responses.started("r2", "")
    assert not responses.finished("r1")
    assert responses.running
    assert responses.finished("r2")
    assert not responses.running


def test_only_the_request_that_was_refused_is_forgotten() -> None:
    responses = Responses()
    responses.asked("greeting", "sb_2")
    assert responses.refused("sb_1") is None
    assert responses.refused("") is None
    assert responses.refused("sb_2") == "greeting"
    assert responses.refused("sb_2") is None


def test_a_muted_response_stays_muted_and_the_list_is_bounded() -> None:
    responses = Responses()
    assert responses.mute_active() is None
    responses.started("r1", "")
    assert responses.mute_active() == "r1"
    assert responses.mute_active() is None
    responses.finished("r1")
    assert responses.is_muted("r1")
    for number in range(MUTED_LIMIT):
        responses.mute(f"x{number}")
    assert not responses.is_muted("r1")
