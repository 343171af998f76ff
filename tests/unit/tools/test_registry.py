"""Tools by declaration: schemas, validation, output."""

import json
from typing import Annotated, Any

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, Field

from services.tools import registry
from services.tools.prescriptions import Claim
from services.tools.registry import (
    MESSAGE_MAX_CHARACTERS,
    OUTPUT_MAX_BYTES,
    Arguments,
    Context,
    Registry,
    ToolError,
    encode,
    tool,
)
from services.tools.weather import Coordinates, Location
from shared.tools import read_info

pytestmark = pytest.mark.unit


class Inner(Arguments):
    title: str = ""


class Order(Arguments):
    """The docstring is for us."""

    title: str = Field(description="a field may be called title")
    amount: Annotated[int, Field(ge=1, le=10)] = 1
    inner: Inner = Inner()
    tags: list[str] = Field(default_factory=list)


@tool(description="Order something.", timeout_ms=2500, hold_music=False)
async def order(arguments: Order, _context: Context) -> dict[str, Any]:
    return arguments.model_dump()


@tool(description="Say nothing.", name="named_otherwise", idempotent=True)
async def nothing(_arguments: Arguments, _context: Context) -> None:
    return None


def problem(kind: type[Arguments], values: dict[str, Any]) -> str:
    @tool(description="")
    async def any_tool(arguments: kind, _context: Context) -> None:  # type: ignore[valid-type]
        return None

    with pytest.raises(ToolError) as caught:
        Registry(any_tool)["any_tool"].read(values)
    assert caught.value.code == "invalid_arguments"
    return caught.value.message


def test_a_decorated_function_is_a_tool_that_discovery_can_read() -> None:
    made = Registry(order)["order"]
    assert all(isinstance(value, str) for value in made.metadata().values())
    (info,) = read_info({"endpoints": [{"subject": "tool.order", "metadata": made.metadata()}]})
    assert info == made.info
    assert (info.description, info.timeout_ms) == ("Order something.", 2500)
    assert (info.idempotent, info.hold_music) == (False, False)


def test_a_schema_has_no_noise_but_fields_called_title() -> None:
    assert registry.schema(Order) == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string", "description": "a field may be called title"},
            "amount": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
            "inner": {"$ref": "#/$defs/Inner", "default": {"title": ""}},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["title"],
        "$defs": {
            "Inner": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"title": {"type": "string", "default": ""}},
            }
        },
    }


@pytest.mark.parametrize("kind", [Coordinates, Location, Claim, Arguments])
def test_every_argument_is_described(kind: type[Arguments]) -> None:
    made = registry.schema(kind)
    assert made["additionalProperties"] is False
    for name, field in made["properties"].items():
        assert field.get("description"), name


def test_a_tool_may_have_another_name_than_its_function() -> None:
    made = Registry(nothing)["named_otherwise"]
    assert made.info.idempotent
    assert made.info.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_methods_are_tools_of_their_object() -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @tool(description="Which shop.")
        async def which(self, _arguments: Arguments, _context: Context) -> str:
            return self.name

    made = Registry(Shop("ours"), order)
    assert [each.info.name for each in made] == ["which", "order"]


def test_what_cannot_be_a_tool_is_refused_at_start() -> None:
    @tool(description="")
    async def untyped(arguments, context):  # type: ignore[no-untyped-def]
        return None

    @tool(description="")
    async def lenient(arguments: BaseModel, _context: Context) -> None:
        return None

    @tool(description="")
    async def lonely(_arguments: Order) -> None:
        return None

    @tool(description="")  # type: ignore[type-var]
    def blocking(_arguments: Order, _context: Context) -> None:
        return None

    @tool(description="", name="not a name")
    async def misnamed(_arguments: Order, _context: Context) -> None:
        return None

    for wrong in (untyped, lenient, lonely, blocking, print, object()):
        with pytest.raises(TypeError):
            Registry(wrong)
    with pytest.raises(ValueError, match="name"):
        Registry(misnamed)
    with pytest.raises(ValueError, match="two tools"):
        Registry(order, order)


def test_arguments_are_read_with_forgiveness_for_kinds() -> None:
    made = Registry(order)["order"]
    read = made.read({"title": 12, "amount": "3", "tags": None})
    assert isinstance(read, Order)
    assert (read.title, read.amount, read.tags) == ("12", 3, [])


def test_a_problem_names_the_field_and_what_is_wrong() -> None:
    assert problem(Order, {}) == "title: it is required"
    assert problem(Order, {"title": None}).startswith("title: ")
    assert problem(Order, {"title": "x", "amount": 11}) == (
        "amount: Input should be less than or equal to 10"
    )
    assert problem(Order, {"title": "x", "colour": "red"}) == (
        "colour: there is no such argument, only: title, amount, inner, tags"
    )
    assert problem(Order, {"title": "x", "inner": {"deep": 1}}).startswith("inner.deep: ")
    assert problem(Coordinates, {"latitude": "north", "longitude": 1}).startswith("latitude: ")
    assert problem(Coordinates, {"latitude": float("nan"), "longitude": 1}).startswith("latitude")


def test_a_problem_is_one_short_line_of_ascii_without_the_value() -> None:
    names = {f"extra{number}\r\nX-Header: ü{'x' * 100}": "s3cret" for number in range(50)}
    text = problem(Order, {"title": "x", "amount": "s3cret", **names})
    assert text.isascii()
    assert text.isprintable()
    assert "s3cret" not in text
    assert len(text) <= MESSAGE_MAX_CHARACTERS
    assert "more" in problem(Order, {str(number): 1 for number in range(9)})


def test_output_is_json_once() -> None:
    assert encode({"temp": 7.5}) == b'{"temp":7.5}'
    assert encode("7") == b'"7"'
    assert encode(None) == b"null"
    assert encode(Order(title="x")) == (b'{"title":"x","amount":1,"inner":{"title":""},"tags":[]}')
    assert json.loads(encode([float("nan"), float("inf")])) == [None, None]


@pytest.mark.parametrize("output", [object(), {"f": print}, "\ud800", lambda: 1])
def test_output_that_is_no_json_fails(output: object) -> None:
    with pytest.raises(ToolError) as caught:
        encode(output)
    assert caught.value.code == "failed"


def test_output_that_refers_to_itself_fails() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ToolError) as caught:
        encode(endless)
    assert caught.value.code == "failed"


def test_output_has_a_limit() -> None:
    assert len(encode("x" * (OUTPUT_MAX_BYTES - 2))) == OUTPUT_MAX_BYTES
    with pytest.raises(ToolError) as caught:
        encode("x" * (OUTPUT_MAX_BYTES - 1))
    assert caught.value.code == "output_too_large"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = {name for kind in (Order, Coordinates, Location, Claim) for name in kind.model_fields}
NAMES = st.sampled_from(sorted(FIELDS))


@given(values=st.dictionaries(NAMES | st.text(), JSON, max_size=6))
def test_no_arguments_crash_the_validation(values: dict[str, Any]) -> None:
    for kind in (Order, Coordinates, Location, Claim):
        made = registry.Tool(Registry(order)["order"].info, kind, order)
        error: ToolError | None = None
        try:
            assert isinstance(made.read(values), kind)
        except ToolError as raised:
            error = raised
        if error is not None:
            assert error.code == "invalid_arguments"
            assert error.message.isprintable()
            assert 0 < len(error.message) <= MESSAGE_MAX_CHARACTERS
