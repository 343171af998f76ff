"""Open-Meteo's answers in our words."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from services.tools import forecast
from services.tools.forecast import CONDITIONS, Current, Forecast, Match
from tests.unit.tools.house import OSLO, SPRINGFIELDS

pytestmark = pytest.mark.unit


def test_the_answer_speaks() -> None:
    now = forecast.weather(Forecast.model_validate(OSLO))
    assert now.model_dump() == {
        "temp": 17.4,
        "feels_like": 15.9,
        "humidity_percent": 62,
        "conditions": "light rain",
        "wind_speed": 14.0,
        "wind_from": "southwest",
        "precipitation": 0.4,
        "daylight": True,
        "local_time": "2026-06-01T14:15",
        "units": {"temp": "°C", "wind_speed": "km/h", "precipitation": "mm"},
    }


def test_only_the_temperature_is_needed() -> None:
    now = forecast.weather(Forecast(current=Current(temperature_2m=-3)))
    assert (now.temp, now.feels_like, now.conditions) == (-3, None, "unknown")
    assert (now.wind_from, now.daylight) == ("unknown", None)


def test_an_unknown_code_is_unknown_weather() -> None:
    current = Current(temperature_2m=1, weather_code=42)
    assert forecast.weather(Forecast(current=current)).conditions == "unknown"
    assert len(set(CONDITIONS.values())) == len(CONDITIONS)


@pytest.mark.parametrize(
    ("degrees", "word"),
    [
        (0, "north"),
        (22.4, "north"),
        (23, "northeast"),
        (180, "south"),
        (222, "southwest"),
        (337, "northwest"),
        (338, "north"),
        (360, "north"),
        (None, "unknown"),
    ],
)
def test_the_wind_has_a_name(degrees: float | None, word: str) -> None:
    assert forecast.compass(degrees) == word


def test_the_query_asks_for_what_is_read() -> None:
    query = forecast.forecast_query(59.91273, -0.0001, "metric")
    assert (query["latitude"], query["longitude"]) == ("59.91", "0.00")
    assert set(query["current"].split(",")) == set(Current.model_fields) - {"time"}
    assert query["temperature_unit"] == "celsius"
    imperial = forecast.forecast_query(59.91273, -0.0001, "imperial")
    assert (imperial["temperature_unit"], imperial["wind_speed_unit"]) == ("fahrenheit", "mph")


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_coordinates_are_plain_numbers(latitude: float, longitude: float) -> None:
    query = forecast.forecast_query(latitude, longitude, "metric")
    for value in (query["latitude"], query["longitude"]):
        assert "e" not in value
        assert value != "-0.00"


def test_a_place_tells_which_one_it_is() -> None:
    best, *others = [Match.model_validate(each) for each in SPRINGFIELDS]
    found = forecast.at_place(forecast.weather(Forecast.model_validate(OSLO)), best, others * 2)
    assert found.temp == 17.4
    assert found.place.model_dump() == {
        "name": "Springfield",
        "region": "Missouri",
        "country": "United States",
    }
    assert found.other_places == [
        "Springfield, Massachusetts, United States",
        "Springfield, Illinois, United States",
        "Springfield, Canterbury, New Zealand",
    ]


def test_more_than_we_know_is_passed_over() -> None:
    more: dict[str, Any] = {**OSLO, "hourly": {}, "current": {**OSLO["current"], "cape": 1}}
    assert forecast.weather(Forecast.model_validate(more)).temp == 17.4
