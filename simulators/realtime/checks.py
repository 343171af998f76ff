"""Strict checks of client JSON, put together like the types of the API.

A check takes a value and the path that names it, returns nothing, and raises `Refusal` with the
code, message and `param` of the service.

OpenAI: the service is stricter than its published types; an unknown field anywhere refuses the
whole event.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from simulators.realtime.refusal import Refusal

__all__ = [
    "Check",
    "any_of",
    "anything",
    "boolean",
    "choice",
    "each",
    "integer",
    "mapping",
    "nullable",
    "number",
    "record",
    "string",
    "tagged",
]

Check = Callable[[Any, str], None]

_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
}


def _wrong_type(value: Any, path: str, expected: str) -> Refusal:
    got = "null" if value is None else _NAMES.get(type(value), "a number")
    message = f"Invalid type for '{path}': expected {expected}, but got {got} instead."
    return Refusal("invalid_type", message, path)


def _missing(path: str) -> Refusal:
    return Refusal("missing_required_parameter", f"Missing required parameter: '{path}'.", path)


def _bad_value(value: Any, path: str, allowed: Collection[str]) -> Refusal:
    supported = ", ".join(f"'{name}'" for name in allowed)
    message = f"Invalid value: '{value}'. Supported values are: {supported}."
    return Refusal("invalid_value", message, path)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def anything(value: Any, path: str) -> None:
    """Accept whatever it is."""


def boolean(value: Any, path: str) -> None:
    """Accept true and false."""
    if not isinstance(value, bool):
        raise _wrong_type(value, path, "a boolean")


def string(chars_max: int | None = None) -> Check:
    """Accept text of at most `chars_max` characters."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, path, "a string")
        if chars_max is not None and len(value) > chars_max:
            message = (
                f"Invalid '{path}': string too long. Expected a string with maximum length "
                f"{chars_max}, but got a string with length {len(value)} instead."
            )
            raise Refusal("string_above_max_length", message, path)

    return check


def number(low: float | None = None, high: float | None = None) -> Check:
    """Accept a number between two bounds, both included."""
    return _numeric(low, high, "decimal", "a number")


def integer(low: int | None = None, high: int | None = None) -> Check:
    """Accept a whole number between two bounds, both included."""
    return _numeric(low, high, "integer", "an integer")


def _numeric(low: float | None, high: float | None, kind: str, name: str) -> Check:
    types = (int,) if kind == "integer" else (int, float)

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, types):
            raise _wrong_type(value, path, name)
        assert isinstance(value, (int, float))
        if low is not None and value < low:
            message = f"Invalid '{path}': expected a value >= {low}."
            raise Refusal(f"{kind}_below_min_value", message, path)
        if high is not None and value > high:
            message = f"Invalid '{path}': expected a value <= {high}."
            raise Refusal(f"{kind}_above_max_value", message, path)

    return check


def choice(*allowed: str) -> Check:
    """Accept one of these strings."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, path, "a string")
        if value not in allowed:
            raise _bad_value(value, path, allowed)

    return check


def nullable(inner: Check) -> Check:
    """Accept null as well."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def any_of(text: Check, other: Check) -> Check:
    """Check strings by `text` and everything else by `other`."""

    def check(value: Any, path: str) -> None:
        (text if isinstance(value, str) else other)(value, path)

    return check


def each(inner: Check, *, items_max: int | None = None) -> Check:
    """Accept an array of things that `inner` accepts."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _wrong_type(value, path, "an array")
        if items_max is not None and len(value) > items_max:
            message = f"Invalid '{path}': expected at most {items_max} elements."
            raise Refusal("array_above_max_length", message, path)
        for index, element in enumerate(value):
            inner(element, f"{path}[{index}]")

    return check


def mapping(*, pairs_max: int, key_chars_max: int, value: Check) -> Check:
    """Accept an object with free keys, as `metadata` is."""

    def check(pairs: Any, path: str) -> None:
        if not isinstance(pairs, dict):
            raise _wrong_type(pairs, path, "an object")
        if len(pairs) > pairs_max:
            message = f"Invalid '{path}': expected at most {pairs_max} properties."
            raise Refusal("object_above_max_properties", message, path)
        for key, element in pairs.items():
            string(key_chars_max)(key, _join(path, key))
            value(element, _join(path, key))

    return check


def record(fields: Mapping[str, Check], *, required: Collection[str] = ()) -> Check:
    """Accept an object with these fields and no others."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(value, path, "an object")
        for key in required:
            if key not in value:
                raise _missing(_join(path, key))
        for key, element in value.items():
            if key not in fields:
                unknown = _join(path, key)
                raise Refusal("unknown_parameter", f"Unknown parameter: '{unknown}'.", unknown)
            fields[key](element, _join(path, key))

    return check


def tagged(cases: Mapping[str, Check], *, tag: str = "type") -> Check:
    """Accept an object whose `tag` says which of the cases it must satisfy."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(value, path, "an object")
        if tag not in value:
            raise _missing(_join(path, tag))
        name = value[tag]
        if not isinstance(name, str) or name not in cases:
            raise _bad_value(name, _join(path, tag), cases)
        cases[name](value, path)

    return check
