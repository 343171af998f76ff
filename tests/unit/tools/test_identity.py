"""Who may hear what."""

import pytest
from hypothesis import given, strategies as st

from services.tools import identity
from services.tools.identity import COMPARISONS_MIN, Candidate, Factors, Verdict, e164, judge

pytestmark = pytest.mark.unit

ANN = Candidate("rosie-1", "ann", "Ann Lee", "1985-03-14", "+12025550143")
BOB = Candidate("rosie-2", "bob", "Bob van Dyk", "1972-11-02", "+1 (202) 555-0178")
CAT = Candidate("rosie-3", "cat", "Cat Moss", "1985-03-14", "")
DAN = Candidate("rosie-4", "dan", "Dan Poe", "1999-09-09", "+12025550143")
ANN_AGAIN = Candidate("rosie-5", "ann", "Ann Lee", "1985-03-14", "+12025550143")

NO_DATE, WRONG, ANNS, BOBS = "", "1950-01-01", "1985-03-14", "1972-11-02"
NO_NUMBER, OTHER, ANN_CALLS, BOB_CALLS = "", "+12025550100", "+12025550143", "+12025550178"


@pytest.mark.parametrize(
    ("born", "number", "verdict", "patients"),
    [
        (NO_DATE, NO_NUMBER, Verdict.NEEDED, []),
        (NO_DATE, OTHER, Verdict.NEEDED, []),
        (NO_DATE, ANN_CALLS, Verdict.VERIFIED, ["rosie-1"]),
        (NO_DATE, BOB_CALLS, Verdict.VERIFIED, ["rosie-2"]),
        (WRONG, NO_NUMBER, Verdict.NOT_VERIFIED, []),
        (WRONG, OTHER, Verdict.NOT_VERIFIED, []),
        (WRONG, ANN_CALLS, Verdict.VERIFIED, ["rosie-1"]),
        (ANNS, NO_NUMBER, Verdict.VERIFIED, ["rosie-1"]),
        (ANNS, OTHER, Verdict.VERIFIED, ["rosie-1"]),
        (ANNS, ANN_CALLS, Verdict.VERIFIED, ["rosie-1"]),
        # Each factor fits another owner of a Rosie: neither is told of before it is clear whose.
        (ANNS, BOB_CALLS, Verdict.SEVERAL, []),
    ],
)
def test_factors(born: str, number: str, verdict: Verdict, patients: list[str]) -> None:
    factors = Factors(date_of_birth=born, number=number)
    assert judge([ANN, BOB], factors) == (verdict, patients)


@pytest.mark.parametrize("born", [NO_DATE, WRONG])
@pytest.mark.parametrize("number", [NO_NUMBER, OTHER])
@pytest.mark.parametrize("owner_name", ["", "Ann Lee"])
def test_an_unknown_patient_is_the_same_as_a_wrong_factor(
    born: str, number: str, owner_name: str
) -> None:
    factors = Factors(born, number, owner_name)
    assert judge([], factors) == judge([ANN], factors) == judge([ANN, BOB, CAT, DAN], factors)


@pytest.mark.parametrize(
    ("owner_name", "verdict", "patients"),
    [
        ("", Verdict.SEVERAL, []),
        ("Ann Lee", Verdict.VERIFIED, ["rosie-1"]),
        ("moss", Verdict.VERIFIED, ["rosie-3"]),
        ("Cat  MOSS", Verdict.VERIFIED, ["rosie-3"]),
        ("Bob van Dyk", Verdict.NOT_VERIFIED, []),
        ("A", Verdict.NOT_VERIFIED, []),
    ],
)
def test_owners_born_on_one_day_are_told_apart_by_name(
    owner_name: str, verdict: Verdict, patients: list[str]
) -> None:
    factors = Factors(date_of_birth=ANNS, owner_name=owner_name)
    assert judge([ANN, BOB, CAT], factors) == (verdict, patients)


def test_a_shared_telephone_is_told_apart_by_name_too() -> None:
    assert judge([ANN, DAN], Factors(number=ANN_CALLS)) == (Verdict.SEVERAL, [])
    assert judge([ANN, DAN], Factors(number=ANN_CALLS, owner_name="Dan")) == (
        Verdict.VERIFIED,
        ["rosie-4"],
    )


def test_a_name_alone_proves_nothing() -> None:
    assert judge([ANN], Factors(owner_name="Ann Lee")) == (Verdict.NOT_VERIFIED, [])
    assert judge([], Factors(owner_name="Ann Lee")) == (Verdict.NOT_VERIFIED, [])


def test_two_animals_of_one_owner_are_both_told_of() -> None:
    assert judge([ANN, ANN_AGAIN], Factors(date_of_birth=ANNS)) == (
        Verdict.VERIFIED,
        ["rosie-1", "rosie-5"],
    )


def test_a_record_without_a_factor_is_matched_by_no_factor() -> None:
    bare = Candidate("x", "x", "X", "", "")
    assert judge([bare], Factors()) == (Verdict.NEEDED, [])
    assert judge([bare], Factors(date_of_birth=WRONG)) == (Verdict.NOT_VERIFIED, [])


def test_the_work_is_the_same_for_none_and_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    real = identity._same

    def count(ours: str, theirs: str) -> bool:
        nonlocal compared
        compared += 1
        return real(ours, theirs)

    monkeypatch.setattr(identity, "_same", count)
    done = []
    for candidates in ([], [BOB], [BOB, CAT], [BOB] * COMPARISONS_MIN):
        compared = 0
        judge(candidates, Factors(date_of_birth=WRONG, number=OTHER))
        done.append(compared)
    assert done == [2 * COMPARISONS_MIN] * 4


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("+12025550143", "+12025550143"),
        ("+1 (202) 555-0143", "+12025550143"),
        ("0047 22 12 34 56", "+4722123456"),
        ("2025550143", ""),
        ("anonymous", ""),
        ("+266696687", ""),
        ("client:ann", ""),
        ("sip:+12025550143@example.com", ""),
        ("+0123456789", ""),
        ("+1", ""),
        ("+1234567890123456", ""),
        ("+١٢٣٤٥٦٧٨٩", ""),
        ("", ""),
    ],
)
def test_numbers_are_compared_in_one_notation(text: str, wanted: str) -> None:
    assert e164(text) == wanted


FIELD = st.sampled_from([NO_DATE, WRONG, ANNS, BOBS])
NUMBER = st.sampled_from([NO_NUMBER, OTHER, ANN_CALLS, BOB_CALLS]) | st.text(max_size=12)


@given(
    candidates=st.lists(st.sampled_from([ANN, BOB, CAT, DAN, ANN_AGAIN]), unique=True),
    born=FIELD,
    number=NUMBER,
    owner_name=st.sampled_from(["", "Ann", "Bob van Dyk"]) | st.text(max_size=12),
)
def test_only_who_is_proved_is_told(
    candidates: list[Candidate], born: str, number: str, owner_name: str
) -> None:
    verdict, patients = judge(candidates, Factors(born, e164(number), owner_name))
    assert bool(patients) == (verdict is Verdict.VERIFIED)
    told = [one for one in candidates if one.patient in patients]
    assert len({one.owner for one in told}) <= 1
    for one in told:
        by_date = born and one.date_of_birth == born
        by_number = e164(number) and e164(one.phone) == e164(number)
        assert by_date or by_number
