from pathlib import Path

import pytest

from simulators.realtime.script import DEFAULT_SCRIPTS, Call, failed, filled, load

pytestmark = pytest.mark.unit


def test_placeholders_are_filled_from_the_outputs() -> None:
    outputs = ['{"temp": 7, "wind": {"speed": 3.5}}', '{"city": "Oslo", "temp": 8}', "plain"]
    text = "{city}: {temp} degrees, {wind.speed} m/s, {output}; {wind} {missing} {wind.gust}"
    assert filled(text, outputs) == (
        'Oslo: 8 degrees, 3.5 m/s, plain; {"speed": 3.5} {missing} {wind.gust}'
    )


def test_an_error_in_any_output_is_a_failure() -> None:
    assert failed(['{"temp": 7}', '{"error": "timeout"}'])
    assert not failed(['{"temp": 7, "error": null}', "error", "[1]"])


def test_arguments_are_sent_with_odd_spacing_or_exactly_as_written() -> None:
    assert Call(name="a", arguments={"x": 1}).arguments_text() == '{\n "x": 1\n}'
    assert Call(name="a", arguments="{not json").arguments_text() == "{not json"


def test_the_default_scripts_call_nothing() -> None:
    assert set(DEFAULT_SCRIPTS) == {"gpt-realtime-2.1", "gpt-realtime-2.1-mini"}
    for name, script in DEFAULT_SCRIPTS.items():
        assert script.name == name
        assert 4 <= len(script.turns) <= 5
        assert not any(turn.call for turn in script.turns)


def test_a_script_with_a_spelling_mistake_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('{"name": "acme", "greetings": {"say": "Hello."}}')
    with pytest.raises(ValueError, match="greetings"):
        load(path)
