"""Asks Open-Meteo, once more when that may help, and remembers the answers for a while."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import aiohttp
from cachetools import TTLCache
from pydantic import BaseModel, ValidationError
from yarl import URL

from services.tools import forecast, metrics
from services.tools.forecast import Forecast, Match, Matches, Units
from services.tools.registry import ToolError

log = logging.getLogger(__name__)

#: Places and their weather, about 1 kB each.
CACHE_ANSWERS: Final = 2000
#: A current forecast has 1 kB, ten places have 10 kB.
ANSWER_MAX_BYTES: Final = 256 * 1024
#: One try more: a connection that breaks or a server that restarts is over in a moment, and the
#: caller waits.  A time-out is not tried again, for the same reason.
TRIES: Final = 2
BACKOFF_S: Final = 0.25

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class _TryAgainError(Exception):
    """It may work now.  Says how it failed: a metric's label."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class OpenMeteo:
    """Weather and places; raises `ToolError` (`unavailable`) when there is no usable answer."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        forecast_url: str,
        geocoding_url: str,
        units: Units,
        timeout_s: float,
        cache_s: float,
        api_key: str = "",
        backoff_s: float = BACKOFF_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._forecast_url = f"{forecast_url}/v1/forecast"
        self._geocoding_url = f"{geocoding_url}/v1/search"
        self._units = units
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._key = {"apikey": api_key} if api_key else {}
        self._backoff_s = backoff_s
        self._cache: TTLCache[str, BaseModel] = TTLCache(CACHE_ANSWERS, cache_s, timer=clock)

    async def forecast(self, latitude: float, longitude: float) -> Forecast:
        """The weather there, now."""
        query = forecast.forecast_query(latitude, longitude, self._units)
        return await self._ask(self._forecast_url, query, Forecast)

    async def places(self, name: str) -> list[Match]:
        """The places called `name`, Open-Meteo's best first."""
        query = forecast.search_query(name)
        return (await self._ask(self._geocoding_url, query, Matches)).results

    async def _ask(self, base: str, query: Mapping[str, str], kind: type[AnswerT]) -> AnswerT:
        url = URL(base).with_query({**query, **self._key})
        known = self._cache.get(str(url))
        if isinstance(known, kind):
            metrics.WEATHER.labels("cached").inc()
            return known
        answer = self._read(await self._fetch(url), kind)
        metrics.WEATHER.labels("ok").inc()
        self._cache[str(url)] = answer
        return answer

    async def _fetch(self, url: URL) -> bytes:
        for attempt in range(1, TRIES + 1):
            try:
                return await self._get(url)
            except TimeoutError:
                raise self._unavailable("unreachable", "timeout") from None
            except _TryAgainError as error:
                if attempt == TRIES:
                    raise self._unavailable(error.outcome, "tries") from None
                metrics.WEATHER.labels("retried").inc()
                await asyncio.sleep(self._backoff_s)
        raise AssertionError("the last try returns or raises")

    async def _get(self, url: URL) -> bytes:
        try:
            async with self._http.get(url, timeout=self._timeout) as response:
                body = await _read_bounded(response.content)
                status = response.status
        except TimeoutError:
            raise
        except aiohttp.ClientError as error:
            raise _TryAgainError("unreachable") from error
        if status >= 500:
            raise _TryAgainError("status")
        if status != 200:
            # 400 with a reason: we ask wrongly, or the service has changed.  429: too often.
            raise self._unavailable("status", str(status))
        return body

    def _read(self, body: bytes, kind: type[AnswerT]) -> AnswerT:
        try:
            return kind.model_validate_json(body)
        except ValidationError:
            raise self._unavailable("garbage", "not the JSON that is documented") from None

    def _unavailable(self, outcome: str, why: str) -> ToolError:
        metrics.WEATHER.labels(outcome).inc()
        # Never the URL: it says where a caller is, and may hold the key.
        log.warning("no weather", extra={"outcome": outcome, "why": why})
        return ToolError("unavailable", "the weather service cannot be reached just now")


async def _read_bounded(content: aiohttp.StreamReader) -> bytes:
    """All of `content`; a body that is far too long is cut, and then is no JSON any more."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            break
    return bytes(body[:ANSWER_MAX_BYTES])
