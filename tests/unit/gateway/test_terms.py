"""What `start` must say before a phone is let in."""

import dataclasses

import pytest

from services.gateway.terms import Admission
from services.gateway.twilio import Start

pytestmark = pytest.mark.unit

CALL = "CA" + "1" * 32
ACCOUNT = "AC" + "2" * 32
START = Start("MZ1", CALL, ACCOUNT, "", "", True)


@pytest.mark.parametrize("call", [CALL, None])
@pytest.mark.parametrize("account", [ACCOUNT, None])
def test_what_fits_is_taken(call: str | None, account: str | None) -> None:
    assert Admission(call, account).objection(START) is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"call": "CA" + "3" * 32}, 1008),
        ({"call": "CA*"}, 1008),
        ({"call": ""}, 1008),
        ({"account": "AC1"}, 1008),
        ({"account": ""}, 1008),
        ({"mulaw_8k": False}, 1003),
    ],
)
def test_what_does_not_fit_is_not(fields: dict[str, object], code: int) -> None:
    objection = Admission(CALL, ACCOUNT).objection(dataclasses.replace(START, **fields))  # type: ignore[arg-type]
    assert objection is not None
    assert objection.code == code


def test_without_a_token_there_must_still_be_a_call_id() -> None:
    assert Admission(None, None).objection(dataclasses.replace(START, call=">")) is not None
