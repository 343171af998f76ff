"""Which of the places called Springfield is meant.  Pure: no I/O.

The geocoding knows names only: what a caller adds to the name ("in Illinois") chooses among its
matches.
"""

import unicodedata
from collections.abc import Sequence
from typing import Final

from services.tools.forecast import Match

#: What people say for what the geocoding calls otherwise.
_ALIASES: Final = {
    "usa": "united states",
    "u.s.": "united states",
    "u.s.a.": "united states",
    "america": "united states",
    "uk": "united kingdom",
    "u.k.": "united kingdom",
    "great britain": "united kingdom",
    "uae": "united arab emirates",
    "holland": "netherlands",
    "dc": "district of columbia",
    "d.c.": "district of columbia",
}
# fmt: off
_STATES: Final = {
    "al": "alabama", "ak": "alaska", "az": "arizona", "ar": "arkansas", "ca": "california",
    "co": "colorado", "ct": "connecticut", "de": "delaware", "fl": "florida", "ga": "georgia",
    "hi": "hawaii", "id": "idaho", "il": "illinois", "in": "indiana", "ia": "iowa",
    "ks": "kansas", "ky": "kentucky", "la": "louisiana", "me": "maine", "md": "maryland",
    "ma": "massachusetts", "mi": "michigan", "mn": "minnesota", "ms": "mississippi",
    "mo": "missouri", "mt": "montana", "ne": "nebraska", "nv": "nevada", "nh": "new hampshire",
    "nj": "new jersey", "nm": "new mexico", "ny": "new york", "nc": "north carolina",
    "nd": "north dakota", "oh": "ohio", "ok": "oklahoma", "or": "oregon", "pa": "pennsylvania",
    "ri": "rhode island", "sc": "south carolina", "sd": "south dakota", "tn": "tennessee",
    "tx": "texas", "ut": "utah", "vt": "vermont", "va": "virginia", "wa": "washington",
    "wv": "west virginia", "wi": "wisconsin", "wy": "wyoming",
}
# fmt: on


def readings(location: str) -> list[tuple[str, list[str]]]:
    """How a spoken place can be read: names to look up, each with hints to choose by.

    "Springfield, Illinois" is taken apart.  "Paris Texas" may be one name, as "New York" is, so
    that is tried first.
    """
    parts = [part.strip() for part in location.split(",") if part.strip()]
    if not parts:
        return []
    name, *hints = parts
    found = [(name, hints)]
    words = name.split()
    if len(words) > 1:
        found.append((" ".join(words[:-1]), [words[-1], *hints]))
    return found


def choose(matches: Sequence[Match], name: str, hints: Sequence[str]) -> list[Match]:
    """`matches`, the best first: by hints, then the exact name, then Open-Meteo's own order."""
    wanted = _plain(name)

    def rank(match: Match) -> tuple[int, bool]:
        return (-_hits(match, hints), _plain(match.name) != wanted)

    return sorted(matches, key=rank)


def fits(match: Match, hints: Sequence[str]) -> bool:
    """Whether every hint is true of `match`."""
    return _hits(match, hints) == len(hints)


def _hits(match: Match, hints: Sequence[str]) -> int:
    known = {
        _plain(part) for part in (match.country, match.country_code, match.admin1, match.admin2)
    }
    known.discard("")
    american = match.country_code.casefold() == "us"
    return sum(not known.isdisjoint(_meanings(hint, american=american)) for hint in hints)


def _meanings(hint: str, *, american: bool) -> set[str]:
    """What `hint` can stand for.  CA is California in America, and Canada elsewhere."""
    said = _plain(hint)
    if american and said in _STATES:
        return {_STATES[said]}
    return {said, _ALIASES.get(said, said)}


def _plain(text: str) -> str:
    """For comparing: no case, no accents, single blanks."""
    decomposed = unicodedata.normalize("NFKD", text)
    kept = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(kept.casefold().split())
