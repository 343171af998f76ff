"""Dates of birth as they are said."""

import datetime

import pytest
from hypothesis import given, strategies as st

from services.tools.spoken_dates import read_date

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "1985-03-14",
        " 1985-3-14 ",
        "1985/03/14",
        "1985 03 14",
        "19850314",
        "1985-03-14T00:00:00Z",
        "3/14/1985",
        "14.3.1985",
        "14 03 1985",
        "March 14, 1985",
        "mar 14 1985",
        "March 14th, 1985",
        "14 March 1985",
        "the 14th of March 1985",
        "1985, March 14",
        "March fourteenth nineteen eighty-five",
        "the fourteenth of March, nineteen eighty five",
        "born on the 14th of March 1985",
    ],
)
def test_one_day_in_many_words(text: str) -> None:
    assert read_date(text) == datetime.date(1985, 3, 14)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("May twenty-first twenty ten", (2010, 5, 21)),
        ("thirty-first of December nineteen ninety nine", (1999, 12, 31)),
        ("June second two thousand", (2000, 6, 2)),
        ("June second two thousand and four", (2004, 6, 2)),
        ("June second two thousand four", (2004, 6, 2)),
        ("September twentieth nineteen oh five", (1905, 9, 20)),
        ("sept 3rd 1961", (1961, 9, 3)),
        ("February twenty nine nineteen seventy two", (1972, 2, 29)),
        ("the third of july nineteen hundred five", (1905, 7, 3)),
        ("7/7/1977", (1977, 7, 7)),
    ],
)
def test_numbers_in_words(text: str, wanted: tuple[int, int, int]) -> None:
    assert read_date(text) == datetime.date(*wanted)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "03/04/1985",
        "4.3.1985",
        "March 1985",
        "March 14",
        "March 14 85",
        "3/14/85",
        "1985",
        "February 30 1985",
        "2023-13-01",
        "1785-03-14",
        "2985-03-14",
        "March or April 14 1985",
        "March 14 1985 or 1986",
        "yesterday",
        "hundred March 1985",
        "' OR 1=1 --",
        "9" * 500,
    ],
)
def test_what_is_not_one_clear_date_is_none(text: str) -> None:
    assert read_date(text) is None


@given(st.text())
def test_no_text_crashes(text: str) -> None:
    assert read_date(text) is None or isinstance(read_date(text), datetime.date)


# fmt: off
WORDS = st.sampled_from([
    "march", "may", "the", "of", "first", "twenty", "nineteen", "hundred", "thousand", "and", "oh",
    "3", "14", "85", "1985", "st", ",", "-", "/",
])
# fmt: on


@given(st.lists(WORDS, max_size=9).map(" ".join))
def test_no_words_crash(text: str) -> None:
    read_date(text)


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)))
def test_every_day_can_be_said(day: datetime.date) -> None:
    assert read_date(day.isoformat()) == day
    assert read_date(f"{day:%B} {day.day}, {day.year}") == day
    assert read_date(f"{day.day} {day:%b} {day.year}") == day
