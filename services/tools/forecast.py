"""What Open-Meteo's answers mean, in words and numbers that can be spoken.  Pure: no I/O.

https://open-meteo.com/en/docs and https://open-meteo.com/en/docs/geocoding-api
"""

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Units = Literal["metric", "imperial"]

CURRENT_FIELDS: Final = (
    "temperature_2m",
    "apparent_temperature",
    "relative_humidity_2m",
    "weather_code",
    "wind_speed_10m",
    "wind_direction_10m",
    "precipitation",
    "is_day",
)
#: About a kilometre, finer than any weather model; it makes neighbours share an answer, and tells
#: nobody where exactly a caller is.
COORDINATE_DECIMALS: Final = 2
#: Enough to find the Springfield that is meant.
MATCHES_MAX: Final = 10
#: Other places of the same name that the model hears of.
ALTERNATIVES_MAX: Final = 3

#: WMO code table 4677, the codes that Open-Meteo uses.
CONDITIONS: Final = {
    0: "clear sky",
    1: "mainly clear",
    2: "partly cloudy",
    3: "overcast",
    45: "fog",
    48: "freezing fog",
    51: "light drizzle",
    53: "drizzle",
    55: "heavy drizzle",
    56: "light freezing drizzle",
    57: "freezing drizzle",
    61: "light rain",
    63: "rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "freezing rain",
    71: "light snow",
    73: "snow",
    75: "heavy snow",
    77: "snow grains",
    80: "light rain showers",
    81: "rain showers",
    82: "violent rain showers",
    85: "light snow showers",
    86: "heavy snow showers",
    95: "thunderstorm",
    96: "thunderstorm with light hail",
    99: "thunderstorm with heavy hail",
}
_COMPASS: Final = (
    "north",
    "northeast",
    "east",
    "southeast",
    "south",
    "southwest",
    "west",
    "northwest",
)


class _Theirs(BaseModel):
    """Base of what Open-Meteo says; it may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Current(_Theirs):
    """The part `current` of a forecast."""

    time: str = Field(default="", max_length=40)
    temperature_2m: float
    apparent_temperature: float | None = None
    relative_humidity_2m: float | None = None
    weather_code: int | None = None
    wind_speed_10m: float | None = None
    wind_direction_10m: float | None = None
    precipitation: float | None = None
    is_day: int | None = None


class Forecast(_Theirs):
    """The answer to `GET /v1/forecast`."""

    timezone: str = Field(default="", max_length=60)
    current_units: dict[str, str] = {}
    current: Current


class Match(_Theirs):
    """A place that the geocoding knows."""

    name: str = Field(max_length=200)
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    country: str = Field(default="", max_length=200)
    country_code: str = Field(default="", max_length=8)
    admin1: str = Field(default="", max_length=200)
    admin2: str = Field(default="", max_length=200)
    population: int = 0


class Matches(_Theirs):
    """The answer to `GET /v1/search`; without `results` when there is no such place."""

    results: list[Match] = Field(default=[], max_length=100)


class WeatherNow(BaseModel):
    """What the model reads.  `temp` is the key that clients of the earlier system know."""

    temp: float
    feels_like: float | None
    humidity_percent: float | None
    conditions: str
    wind_speed: float | None
    wind_from: str
    precipitation: float | None
    daylight: bool | None
    local_time: str
    units: dict[str, str]


class Place(BaseModel):
    """Which place was taken, so that the caller can object."""

    name: str
    region: str
    country: str


class PlaceWeather(WeatherNow):
    """The weather at a place, and other places of that name."""

    place: Place
    other_places: list[str]


def forecast_query(latitude: float, longitude: float, units: Units) -> dict[str, str]:
    """The parameters of `GET /v1/forecast`."""
    imperial = units == "imperial"
    return {
        "latitude": _coordinate(latitude),
        "longitude": _coordinate(longitude),
        "current": ",".join(CURRENT_FIELDS),
        "temperature_unit": "fahrenheit" if imperial else "celsius",
        "wind_speed_unit": "mph" if imperial else "kmh",
        "precipitation_unit": "inch" if imperial else "mm",
        "timezone": "auto",
    }


def search_query(name: str) -> dict[str, str]:
    """The parameters of `GET /v1/search`."""
    return {"name": name, "count": str(MATCHES_MAX), "language": "en", "format": "json"}


def weather(forecast: Forecast) -> WeatherNow:
    """The answer in our words."""
    now, units = forecast.current, forecast.current_units
    return WeatherNow(
        temp=now.temperature_2m,
        feels_like=now.apparent_temperature,
        humidity_percent=now.relative_humidity_2m,
        conditions=CONDITIONS.get(-1 if now.weather_code is None else now.weather_code, "unknown"),
        wind_speed=now.wind_speed_10m,
        wind_from=compass(now.wind_direction_10m),
        precipitation=now.precipitation,
        daylight=None if now.is_day is None else bool(now.is_day),
        local_time=now.time,
        units={
            "temp": units.get("temperature_2m", "")[:20],
            "wind_speed": units.get("wind_speed_10m", "")[:20],
            "precipitation": units.get("precipitation", "")[:20],
        },
    )


def compass(degrees: float | None) -> str:
    """Where the wind comes from, in a word."""
    if degrees is None:
        return "unknown"
    return _COMPASS[round(degrees / 45) % len(_COMPASS)]


def at_place(now: WeatherNow, match: Match, others: Sequence[Match]) -> PlaceWeather:
    """`now`, with the place it belongs to."""
    return PlaceWeather(
        **now.model_dump(),
        place=Place(name=match.name, region=match.admin1, country=match.country),
        other_places=[describe(other) for other in others[:ALTERNATIVES_MAX]],
    )


def describe(match: Match) -> str:
    """`Springfield, Illinois, United States`."""
    return ", ".join(part for part in (match.name, match.admin1, match.country) if part)


def _coordinate(value: float) -> str:
    return f"{round(value, COORDINATE_DECIMALS) + 0.0:.{COORDINATE_DECIMALS}f}"
