"""Which Springfield."""

import pytest
from hypothesis import given, strategies as st

from services.tools import places
from services.tools.forecast import Match
from tests.unit.tools.house import SPRINGFIELDS, place

pytestmark = pytest.mark.unit

MATCHES = [Match.model_validate(each) for each in SPRINGFIELDS]


@pytest.mark.parametrize(
    ("location", "wanted"),
    [
        ("Oslo", [("Oslo", [])]),
        ("New York", [("New York", []), ("New", ["York"])]),
        ("Springfield, Illinois", [("Springfield", ["Illinois"])]),
        (
            "Salt Lake City , UT, USA",
            [("Salt Lake City", ["UT", "USA"]), ("Salt Lake", ["City", "UT", "USA"])],
        ),
        (" , ,", []),
    ],
)
def test_a_spoken_place_is_taken_apart(location: str, wanted: list[tuple[str, list[str]]]) -> None:
    assert places.readings(location) == wanted


@pytest.mark.parametrize(
    ("hints", "region"),
    [
        ([], "Missouri"),
        (["Illinois"], "Illinois"),
        (["il"], "Illinois"),
        (["MA", "usa"], "Massachusetts"),
        (["New Zealand"], "Canterbury"),
        (["NZ"], "Canterbury"),
        (["Narnia"], "Missouri"),
        (["U.S.A."], "Missouri"),
    ],
)
def test_hints_choose(hints: list[str], region: str) -> None:
    best = places.choose(MATCHES, "Springfield", hints)[0]
    assert best.admin1 == region
    assert places.fits(best, hints) == (hints != ["Narnia"])


def test_the_exact_name_comes_before_a_longer_one() -> None:
    found = [
        Match.model_validate(place("San José del Cabo", "Mexico", "MX", "Baja California Sur")),
        Match.model_validate(place("San José", "Costa Rica", "CR", "San José")),
    ]
    assert places.choose(found, "san jose", [])[0].country == "Costa Rica"


def test_two_letters_mean_a_state_in_america_and_a_country_elsewhere() -> None:
    london = [
        Match.model_validate(place("London", "Canada", "CA", "Ontario")),
        Match.model_validate(place("London", "United States", "US", "California")),
    ]
    assert places.fits(london[0], ["CA"])
    assert places.fits(london[1], ["CA"])
    assert not places.fits(london[0], ["California"])


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_words_crash_the_choice(location: str, hint: str) -> None:
    for name, hints in places.readings(location):
        assert name
        assert len(places.choose(MATCHES, name, [*hints, hint])) == len(MATCHES)
