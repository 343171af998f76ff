"""A date of birth as people say it, and as speech becomes text.  Pure: no I/O.

`04/05/1980` is the fourth of May or the fifth of April: that is nobody's to guess when it decides
whether private data are told, so it is not understood, and the caller is asked again.
"""

import datetime
import re
from typing import Final

#: Nobody who calls was born before.
YEAR_MIN: Final = 1900
YEAR_MAX: Final = 2099
TEXT_MAX_CHARACTERS: Final = 100

# fmt: off
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)
_ONES: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}
# fmt: on
_NUMBERS: Final = {word: number for number, word in enumerate(_ONES)} | _TENS | {"oh": 0, "o": 0}
_ORDINALS: Final = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fifth": 5,
    "eighth": 8,
    "ninth": 9,
    "twelfth": 12,
    "twentieth": 20,
    "thirtieth": 30,
} | {
    f"{word}th": number
    for number, word in enumerate(_ONES)
    if word not in ("zero", "one", "two", "three", "five", "eight", "nine", "twelve")
}
_FILLERS: Final = frozenset(("the", "of", "in", "on", "and", "born", "st", "nd", "rd", "th"))
_ISO: Final = re.compile(r"(\d{4})\s*[-/. ]\s*(\d{1,2})\s*[-/. ]\s*(\d{1,2})")
_COMPACT: Final = re.compile(r"(\d{4})(\d{2})(\d{2})")
_NUMERIC: Final = re.compile(r"(\d{1,2})\s*[-/. ]\s*(\d{1,2})\s*[-/. ]\s*(\d{4})")
_TIME_OF_DAY: Final = re.compile(r"[t ]\d{2}:\d{2}.*$")
_PIECES: Final = re.compile(r"\d+|[a-z]+")


def read_date(text: str) -> datetime.date | None:
    """The date that `text` says, or None when it says none, or more than one."""
    said = text[:TEXT_MAX_CHARACTERS].strip().casefold()
    said = _TIME_OF_DAY.sub("", said)
    iso = _ISO.fullmatch(said) or _COMPACT.fullmatch(said)
    if iso is not None:
        return _date(*(int(part) for part in iso.groups()))
    numeric = _NUMERIC.fullmatch(said)
    if numeric is not None:
        return _either_order(*(int(part) for part in numeric.groups()))
    return _in_words(_PIECES.findall(said))


def _date(year: int, month: int, day: int) -> datetime.date | None:
    if not YEAR_MIN <= year <= YEAR_MAX:
        return None
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def _either_order(first: int, second: int, year: int) -> datetime.date | None:
    """Month first or day first; None when both are dates, and not the same."""
    possible = {_date(year, first, second), _date(year, second, first)} - {None}
    return possible.pop() if len(possible) == 1 else None


def _in_words(words: list[str]) -> datetime.date | None:
    """A month's name, and beside it a day and a year, in figures or in words."""
    months = [index for index, word in enumerate(words) if _month(word)]
    if len(months) != 1:
        return None
    month = _month(words[months[0]])
    year: int | None
    before = _numbers(words[: months[0]])
    after = _numbers(words[months[0] + 1 :])
    if before is None or after is None:
        return None
    if len(before) == 1 and len(after) == 1 and before[0] >= YEAR_MIN:  # 1980, April 5
        year, day = before[0], after[0]
    elif len(before) == 1:  # the fifth of April, 1980
        year, day = _year(after), before[0]
    elif not before and after:  # April 5, 1980: the day is one number, or twenty and five
        year, day = _year(after[1:]), after[0]
    else:
        return None
    return None if year is None else _date(year, month, day)


def _month(word: str) -> int:
    """1 to 12, or 0."""
    if len(word) < 3 or (len(word) > 4 and word not in _MONTHS):
        return 0
    for number, name in enumerate(_MONTHS, start=1):
        if word == name or word == name[:3] or (word == "sept" and number == 9):
            return number
    return 0


def _numbers(words: list[str]) -> list[int] | None:
    """The numbers said, an ordinal closed by what follows; None when a word is no number.

    Twenty and one after it are one number; so are thirty and first.
    """
    numbers: list[int] = []
    tens_open = False
    for word in words:
        if word in _FILLERS:
            tens_open = tens_open and word == "and"
            continue
        if word == "hundred" or word == "thousand":
            if not numbers:
                return None
            numbers[-1] *= 100 if word == "hundred" else 1000
            tens_open = False
            continue
        value = _number(word)
        if value is None:
            return None
        if tens_open and 0 < value < 10:
            numbers[-1] += value
        else:
            numbers.append(value)
        tens_open = word in _TENS
    return numbers


def _number(word: str) -> int | None:
    if word.isdecimal():
        return int(word) if len(word) <= 4 else None
    return _NUMBERS.get(word, _ORDINALS.get(word))


def _year(numbers: list[int]) -> int | None:
    """1980; nineteen eighty; nineteen oh five; two thousand four; nineteen hundred five."""
    match numbers:
        case [year] if year >= YEAR_MIN:
            return year
        case [century, rest] if century in (19, 20) and 10 <= rest <= 99:
            return century * 100 + rest
        case [century, 0, rest] if century in (19, 20) and rest < 10:
            return century * 100 + rest
        case [hundreds, rest] if hundreds in (1900, 2000) and rest <= 99:
            return hundreds + rest
        case _:
            return None
