"""Twilio's REST API: what its answers mean to us, against the simulator's."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.gateway import rest as client
from services.gateway.rest import TWIML_MAX_CHARS, Rest, RestError
from simulators.twilio_rest import Fault, TwilioRest
from tests.unit.gateway.house import ACCOUNT, free_port, new_call

pytestmark = pytest.mark.e2e

TOKEN = "0123456789abcdef0123456789abcdef"
KEY = "SK" + "b" * 32


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioRest]:
    async with TwilioRest(ACCOUNT, TOKEN, api_keys={KEY: "key's secret"}) as one:
        yield one


async def refused(
    url: str,
    *,
    account: str | None = ACCOUNT,
    login: tuple[str, str] | None = (ACCOUNT, TOKEN),
    twiml: str = "<Response/>",
) -> RestError:
    async with Rest(url, account, login) as rest:
        with pytest.raises(RestError) as caught:
            await rest.update(new_call(), twiml=twiml)
    return caught.value


async def test_a_call_that_is_over_is_gone(twilio: TwilioRest) -> None:
    assert (await refused(twilio.url)).code == "call_gone"  # 404, 20404
    twilio.faults = [Fault(400, 21220), Fault(404)]
    assert (await refused(twilio.url)).code == "call_gone"
    assert (await refused(twilio.url)).code == "call_gone"
    (first, *_) = twilio.requests
    assert dict(first.form) == {"Twiml": "<Response/>"}


async def test_without_credentials_nothing_is_asked(twilio: TwilioRest) -> None:
    for account, login in ((ACCOUNT, None), (None, None), (None, (KEY, "key's secret"))):
        error = await refused(twilio.url, account=account, login=login)
        assert (error.code, "TWILIO_ACCOUNT_SID" in error.message) == ("no_credentials", True)
    assert twilio.requests == []


async def test_wrong_credentials_are_twilios_own_code(twilio: TwilioRest) -> None:
    assert (await refused(twilio.url, login=(ACCOUNT, "wrong"))).code == "20003"


async def test_an_api_key_is_as_good(twilio: TwilioRest) -> None:
    await refused(twilio.url, login=(KEY, "key's secret"))
    assert [request.user for request in twilio.requests] == [KEY]


async def test_too_many_requests_are_tried_again_once(twilio: TwilioRest) -> None:
    twilio.faults = [Fault(429, 20429)]
    assert (await refused(twilio.url)).code == "call_gone"
    assert len(twilio.requests) == 2
    twilio.faults = [Fault(429, 20429)] * 2
    assert (await refused(twilio.url)).code == "20429"
    assert len(twilio.requests) == 4


async def test_other_errors_are_not_tried_again(twilio: TwilioRest) -> None:
    twilio.faults = [Fault(500, 20500), Fault(502), Fault(302), Fault(400, 21219)]
    codes = [(await refused(twilio.url)).code for _ in range(4)]
    assert codes == ["20500", "http_502", "http_302", "21219"]
    assert len(twilio.requests) == 4


async def test_numbers_in_twilios_words_are_not_repeated(twilio: TwilioRest) -> None:
    twilio.faults = [Fault(400, 21211, f"The 'To' number +15550001111 of {ACCOUNT} is not valid")]
    assert (await refused(twilio.url)).message == "The 'To' number … of … is not valid"


async def test_long_twiml_is_not_sent(twilio: TwilioRest) -> None:
    error = await refused(twilio.url, twiml="x" * (TWIML_MAX_CHARS + 1))
    assert (error.code, twilio.requests) == ("32018", [])


async def test_an_api_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_AFTER_S", 0.01)
    assert (await refused(f"http://127.0.0.1:{free_port()}")).code == "unreachable"


async def test_an_api_that_hangs_up() -> None:
    asked = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await refused(f"http://127.0.0.1:{port}")).code == "unreachable"
    # It may have been carried out, so it is not sent twice.
    assert asked == 1


async def test_an_api_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_S", 0.2)
    over = asyncio.Event()

    async def wait(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await refused(f"http://127.0.0.1:{port}")).code == "timeout"
        over.set()
