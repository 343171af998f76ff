"""The weather tools: `get_weather_from_coords` and `get_weather`."""

from typing import Literal

from pydantic import BaseModel, Field

from services.tools import forecast, places
from services.tools.forecast import PlaceWeather, WeatherNow
from services.tools.open_meteo import OpenMeteo
from services.tools.registry import Arguments, Context, tool


class Coordinates(Arguments):
    """A point on Earth."""

    latitude: float = Field(ge=-90, le=90, description="degrees north, south is negative")
    longitude: float = Field(ge=-180, le=180, description="degrees east, west is negative")


class Location(Arguments):
    """A place as it is spoken of."""

    location: str = Field(
        min_length=2,
        max_length=200,
        description="a town, with region or country if known: 'Springfield, Illinois'",
    )


class NotFound(BaseModel):
    """An answer that the model can speak about: an unknown place is no failure."""

    error: Literal["not_found"] = "not_found"
    message: str = (
        "No place of this name is known. Ask for the nearest bigger town, or for the spelling."
    )


class Weather:
    """Both tools, over one client."""

    def __init__(self, meteo: OpenMeteo) -> None:
        self._meteo = meteo

    @tool(
        description="The weather now at a point given by latitude and longitude.",
        timeout_ms=8000,
        idempotent=True,
    )
    async def get_weather_from_coords(
        self, arguments: Coordinates, _context: Context
    ) -> WeatherNow:
        return forecast.weather(await self._meteo.forecast(arguments.latitude, arguments.longitude))

    @tool(
        description="The weather now at a place given by its name. Says which place was taken, "
        "and names others that are called the same.",
        timeout_ms=10_000,
        idempotent=True,
    )
    async def get_weather(self, arguments: Location, _context: Context) -> PlaceWeather | NotFound:
        for number, (name, hints) in enumerate(places.readings(arguments.location)):
            matches = places.choose(await self._meteo.places(name), name, hints)
            if number:
                # Only a guess at what was said: "Lake Atlantis" is not the place called Lake.
                matches = [match for match in matches if places.fits(match, hints)]
            if matches:
                best, *others = matches
                found = await self._meteo.forecast(best.latitude, best.longitude)
                return forecast.at_place(forecast.weather(found), best, others)
        return NotFound()
