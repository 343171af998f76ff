"""The phone's socket, over a real WebSocket and a real broker, with an owner by script."""

import asyncio
import base64
import contextlib
import hashlib
import json
import time
from functools import partial
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.gateway import tokens, upgrades
from services.gateway.terms import Limits
from shared.bus import Bus, provision
from shared.messages import (
    AttachLeg,
    Clear,
    DtmfPressed,
    HangUpLeg,
    LegLost,
    LegStarted,
    LegStopped,
    Mark,
    MarkReturned,
    Move,
)
from shared.settings import ServiceSettings
from tests.broker import Broker
from tests.helpers import eventually
from tests.unit.gateway.house import (
    ACCOUNT,
    SECRET,
    STREAM,
    Gateway,
    Owner,
    Phone,
    frames,
    gateway,
    metric,
    new_call,
    not_attached,
    phone,
    refused,
    stream_url,
    verbs,
)

pytestmark = pytest.mark.e2e

AUTH: dict[str, Any] = {"twilio_auth_token": "0123456789abcdef"}
MEDIA_HEAD = f'{{"event":"media","streamSid":"{STREAM}","media":{{"payload":"'


# --- both ways -----------------------------------------------------------------------------------


async def test_a_call_from_webhook_to_hang_up(edge: Gateway, owner: Owner) -> None:
    call, said = new_call(), frames(30)
    async with phone(stream_url(await edge.twiml(call)), call) as caller:
        await caller.start()
        await caller.speak(*said[:10])
        await caller.mark("0.1.200")
        await caller.speak(*said[10:20])
        await caller.press("5")
        await caller.speak(*said[20:])
        await eventually(lambda: len(owner.audio) == 30 * 160)
        await caller.stop()
        assert await caller.closed() == 1000
    await eventually(lambda: "stopped" in owner.control())
    assert owner.commands == [
        AttachLeg(gateway=owner.offers[0].gateway, stream=STREAM, audio="pcmu")
    ]
    assert [what for _, what in owner.heard] == [
        LegStarted(),
        *said[:10],
        MarkReturned(name="0.1.200"),
        *said[10:20],
        DtmfPressed(digit="5"),
        *said[20:],
        LegStopped(),
    ]


async def test_the_owner_is_heard_in_order(live: Phone, owner: Owner) -> None:
    long = bytes(range(256)) * 10  # 320 ms in one delta
    owner.say(live.call, b"\x01" * 160, Mark(name="a"), long, Mark(name="b"), Clear(), b"\x02" * 80)
    heard = [await live.receive() for _ in range(6)]
    assert heard == [
        {"event": "media", "streamSid": STREAM, "media": {"payload": _base64(b"\x01" * 160)}},
        {"event": "mark", "streamSid": STREAM, "mark": {"name": "a"}},
        {"event": "media", "streamSid": STREAM, "media": {"payload": _base64(long)}},
        {"event": "mark", "streamSid": STREAM, "mark": {"name": "b"}},
        {"event": "clear", "streamSid": STREAM},
        {"event": "media", "streamSid": STREAM, "media": {"payload": _base64(b"\x02" * 80)}},
    ]


def _base64(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


async def test_a_gap_in_the_timestamps_becomes_silence(live: Phone, owner: Owner) -> None:
    await live.speak(*frames(2))
    await live.speak(*frames(2, first=3), skip_ms=60)
    one, two, three, four = frames(4)
    expected = one + two + b"\xff" * 480 + three + four
    await eventually(lambda: len(owner.audio) >= len(expected))
    assert owner.audio == expected


async def test_compression_is_declined(live: Phone) -> None:
    assert live.socket.response is not None
    assert "Sec-WebSocket-Extensions" not in live.socket.response.headers


# --- who may open it -----------------------------------------------------------------------------


async def refusal(url: str, headers: dict[str, str] | None = None) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with phone(url, "", headers=headers):
            pass
    return caught.value.response.status_code


def minted(call: str, *, expires_in_s: float = 60, secret: str = SECRET) -> str:
    claims = tokens.Claims(call, int(time.time() + expires_in_s), "0" * 32)
    return tokens.mint(hashlib.sha256(secret.encode()).digest(), claims)


async def test_a_token_opens_one_socket_at_one_gateway(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with gateway(nats_url) as one, gateway(nats_url) as two:
        token = await one.token(call)
        async with phone(f"{two.ws_url}/call/{token}", call) as caller:
            await caller.start()
            await eventually(lambda: owner.control() == ["started"])
            assert await refusal(f"{one.ws_url}/call/{token}") == 403
            assert await refusal(f"{two.ws_url}/call/{token}/") == 403


async def test_tokens_that_are_not_good_are_refused(edge: Gateway, owner: Owner) -> None:
    call = new_call()
    good = await edge.token(call)
    before = {
        reason: metric("upgrades_refused_total", reason=reason)
        for reason in ("malformed", "bad_signature", "expired")
    }
    for token in (
        "x",
        "%2e%2e",
        good + "x",
        good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        minted(call, secret="another secret of others"),
        minted(call, expires_in_s=-1),
    ):
        assert await refusal(f"{edge.ws_url}/call/{token}") == 403
    after = {reason: metric("upgrades_refused_total", reason=reason) for reason in before}
    assert {reason: after[reason] - before[reason] for reason in before} == {
        "malformed": 3,
        "bad_signature": 2,
        "expired": 1,
    }
    async with phone(f"{edge.ws_url}/call/{good}", call):
        pass  # none of these has used it up


async def test_a_plain_request_does_not_use_the_token_up(edge: Gateway, owner: Owner) -> None:
    call = new_call()
    token = await edge.token(call)
    assert (await edge.get(f"/call/{token}"))[0] == 426
    async with phone(f"{edge.ws_url}/call/{token}", call):
        pass


async def test_with_an_auth_token_the_upgrade_must_be_signed(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with gateway(nats_url, **AUTH, public_url="https://voice.example.com") as edge:
        for slash_asked, slash_signed in (("", ""), ("", "/"), ("/", ""), ("/", "/")):
            token = await edge.token(call)
            asked = f"{edge.ws_url}/call/{token}{slash_asked}"
            url = f"wss://voice.example.com/call/{token}{slash_signed}"
            for wrong in (url.replace("wss", "https"), url.replace("voice", "other"), f"{url}x"):
                assert await refusal(asked, edge.sign(wrong)) == 403
            assert await refusal(asked) == 403
            async with phone(asked, call, headers=edge.sign(url)) as caller:
                await caller.start()
                await eventually(lambda: "started" in owner.control())


@pytest.mark.parametrize(
    "fields",
    [{"callSid": "CA" + "0" * 32}, {"callSid": "CA*"}, {"callSid": ">"}, {"accountSid": "AC1"}],
)
async def test_start_must_fit_the_token_and_the_account(
    nats_url: str, owner: Owner, fields: dict[str, str]
) -> None:
    call = new_call()
    async with (
        gateway(nats_url, twilio_account_sid=ACCOUNT) as edge,
        phone(stream_url(await edge.twiml(call)), call) as caller,
    ):
        await caller.start(**fields)
        assert await caller.closed() == 1008
    assert owner.commands == []
    assert owner.heard == []


async def test_another_audio_format_is_refused(edge: Gateway, owner: Owner) -> None:
    call = new_call()
    async with phone(stream_url(await edge.twiml(call)), call) as caller:
        await caller.start(mediaFormat={"encoding": "audio/x-raw", "sampleRate": 8000})
        assert await caller.closed() == 1003


async def test_without_kv_nobody_is_let_in(
    edge: Gateway, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = new_call()
    url = stream_url(await edge.twiml(call))

    async def away(*_args: object) -> object:
        raise TimeoutError

    monkeypatch.setattr(edge.bus.js, "key_value", away)
    assert await refusal(url) == 503
    monkeypatch.undo()
    async with phone(url, call):
        pass


async def test_without_a_start_the_socket_is_closed(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with (
        gateway(nats_url, limits=Limits(start_s=0.2)) as edge,
        phone(stream_url(await edge.twiml(call)), call) as caller,
    ):
        await caller.socket.send('{"event":"connected"}')
        assert await caller.closed() == 1008
    assert owner.commands == []


# --- without a webhook ---------------------------------------------------------------------------


async def test_a_bare_stream_is_offered_at_start(edge: Gateway, owner: Owner) -> None:
    call = new_call()
    async with phone(f"{edge.ws_url}/call", call) as caller:
        parameters = {"from": "+15557778888", "to": "+15551230000", "note": "dial:busy"}
        await caller.start(customParameters=parameters)
        await caller.speak(*frames(3))
        await eventually(lambda: len(owner.audio) == 480)
    (offer,) = owner.offers
    assert (offer.call, offer.caller, offer.dialled) == (call, "+15557778888", "+15551230000")
    (attach,) = owner.commands
    assert isinstance(attach, AttachLeg)
    assert attach.note == ""  # that could be anybody's


async def test_a_bare_stream_may_be_forbidden(nats_url: str, owner: Owner) -> None:
    async with gateway(nats_url, allow_bare_stream=False) as edge:
        assert await refusal(f"{edge.ws_url}/call") == 403
    async with gateway(nats_url, **AUTH) as edge:
        url = f"{edge.settings.origin.replace('http', 'ws')}/call"
        assert await refusal(f"{edge.ws_url}/call", edge.sign(url)) == 403


@pytest.mark.parametrize(("code", "closes"), [("ended", 1000), ("failed", 1011)])
async def test_a_bare_stream_that_nobody_takes(
    edge: Gateway, owner: Owner, code: str, closes: int
) -> None:
    owner.to_offers = [refused(code)]
    call = new_call()
    async with phone(f"{edge.ws_url}/call", call) as caller:
        await caller.start()
        assert await caller.closed() == closes
    assert owner.commands == []


async def test_a_bare_stream_when_all_are_busy(edge: Gateway, bus: Bus) -> None:
    call = new_call()
    async with phone(f"{edge.ws_url}/call", call) as caller:
        await caller.start()
        assert await caller.closed() == 1013


# --- attaching -----------------------------------------------------------------------------------


async def test_what_is_said_before_the_owner_listens_is_kept(edge: Gateway, owner: Owner) -> None:
    owner.awake.clear()
    call, said = new_call(), frames(20)
    async with phone(stream_url(await edge.twiml(call)), call) as caller:
        await caller.start()
        await caller.speak(*said[:10])
        await caller.press("1")
        await caller.speak(*said[10:15])
        await (await caller.socket.ping())  # all of it was read
        owner.awake.set()
        await eventually(lambda: len(owner.audio) == 15 * 160)
        await caller.speak(*said[15:])
        await eventually(lambda: len(owner.audio) == 20 * 160)
    expected = [LegStarted(), *said[:10], DtmfPressed(digit="1"), *said[10:]]
    assert [what for _, what in owner.heard][: len(expected)] == expected


async def test_what_is_kept_is_bounded_and_the_oldest_goes(nats_url: str, owner: Owner) -> None:
    owner.awake.clear()
    call, said = new_call(), frames(20)
    before = metric("dropped_audio_bytes_total", where="early")
    async with (
        gateway(nats_url, limits=Limits(held_ms=200, held_controls=2)) as edge,
        phone(stream_url(await edge.twiml(call)), call) as caller,
    ):
        await caller.start()
        for digit in "123":
            await caller.press(digit)
        await caller.speak(*said)
        await (await caller.socket.ping())
        owner.awake.set()
        await eventually(lambda: len(owner.audio) == 1600)
    assert owner.audio == b"".join(said[10:])
    assert owner.control()[:3] == ["started", "dtmf", "dtmf"]
    assert metric("dropped_audio_bytes_total", where="early") - before == 1600


async def test_hanging_up_before_the_owner_has_answered(edge: Gateway, owner: Owner) -> None:
    owner.awake.clear()
    call = new_call()
    async with phone(stream_url(await edge.twiml(call)), call) as caller:
        await caller.start()
        await caller.stop()
        await edge.get("/healthz")  # the gateway has had time to read it
        owner.awake.set()
        assert await caller.closed() == 1000
    await eventually(lambda: owner.control() == ["stopped"])


@pytest.mark.parametrize("code", ["ended", "failed", "format"])
async def test_an_owner_that_does_not_want_the_leg(edge: Gateway, owner: Owner, code: str) -> None:
    owner.to_commands = [not_attached(code)]
    call = new_call()
    async with phone(stream_url(await edge.twiml(call)), call) as caller:
        await caller.start()
        assert await caller.closed() == 1011
    assert owner.heard == []


async def test_an_owner_that_is_dead(edge: Gateway, owner: Owner) -> None:
    call = new_call()
    url = stream_url(await edge.twiml(call))
    await owner.die()
    async with phone(url, call) as caller:
        await caller.start()
        assert await caller.closed() == 1011


# --- garbage -------------------------------------------------------------------------------------


async def test_garbage_is_survived(live: Phone, owner: Owner) -> None:
    kinds = (
        "not_json",
        "shape",
        "audio",
        "unknown_event",
        "other_stream",
        "second_start",
        "binary",
    )
    before = {kind: metric("garbage_total", kind=kind) for kind in kinds}
    await live.socket.send("hello")
    await live.socket.send("\0\uffff")
    await live.socket.send('{"event":["media"]}')
    await live.socket.send('{"event":"media","media":{"payload":7}}')
    await live.event("media", {"payload": "no base64!"})
    await live.event("weather", {"sun": True})
    await live.event("mark", {"name": "x"}, streamSid="MZother")
    await live.start()  # a second one
    await live.socket.send(b"\x00\x01binary")
    await live.socket.send(["[", "[", "["])  # fragments
    await live.speak(*frames(2))
    await live.press("9")
    await eventually(lambda: owner.control() == ["started", "dtmf"])
    assert owner.audio == b"".join(frames(2))
    after = {kind: metric("garbage_total", kind=kind) - before[kind] for kind in kinds}
    assert after == {
        "not_json": 3,
        "shape": 2,
        "audio": 1,
        "unknown_event": 1,
        "other_stream": 1,
        "second_start": 1,
        "binary": 1,
    }


async def test_too_much_garbage_ends_the_stream(live: Phone, owner: Owner) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await live.socket.send("garbage")
    assert await live.closed() == 1008
    await eventually(lambda: owner.control() == ["started", "lost"])


async def test_events_that_twilio_may_add_do_not_end_the_stream(live: Phone, owner: Owner) -> None:
    for _ in range(50):
        await live.event("weather", {"sun": True})
    await live.speak(*frames(1))
    await eventually(lambda: owner.audio == frames(1)[0])


async def test_a_huge_message_ends_the_stream(live: Phone, owner: Owner) -> None:
    await live.socket.send("x" * 70_000)
    assert await live.closed() == 1009
    await eventually(lambda: owner.control() == ["started", "lost"])


async def test_garbage_from_the_owner_is_survived(live: Phone, owner: Owner) -> None:
    for data in (b"", b"{}", b'{"type":"dance"}', b"\xff"):
        await owner.bus.client.publish(f"call.{live.call}.down.1.ctl", data)
    owner.say(live.call, Mark(name="still here"))
    assert (await live.receive())["mark"] == {"name": "still here"}


# --- the end -------------------------------------------------------------------------------------


async def test_the_owner_hangs_up(live: Phone, owner: Owner) -> None:
    owner.say(live.call, b"\x01" * 160, HangUpLeg(reason="agent"))
    assert (await live.receive())["event"] == "media"
    assert await live.closed() == 1000
    await eventually(lambda: metric("streams") == 0)
    assert owner.control() == ["started"]


async def test_a_leg_is_replaced_by_another(edge: Gateway, owner: Owner, live: Phone) -> None:
    async with phone(stream_url(await edge.twiml(live.call)), live.call) as second:
        await second.start()
        await eventually(lambda: owner.control(leg=2) == ["started"])
        owner.say(live.call, Move(leg=2), b"\x07" * 160)
        assert await live.closed() == 1000
        assert (await second.receive())["event"] == "media"
        await second.speak(*frames(1))
        await eventually(lambda: owner.heard[-1] == (2, frames(1)[0]))
    assert owner.control(leg=1) == ["started"]


async def test_a_phone_that_closes_is_lost(live: Phone, owner: Owner) -> None:
    await live.socket.close(1001)
    await eventually(lambda: len(owner.control()) == 2)
    assert owner.heard[-1] == (1, LegLost(reason="socket closed (1001)"))


async def test_a_phone_that_breaks_is_lost(live: Phone, owner: Owner) -> None:
    live.socket.transport.abort()
    await eventually(lambda: len(owner.control()) == 2)
    assert owner.heard[-1] == (1, LegLost(reason="socket broke (1006)"))


async def test_a_lost_phone_comes_back_by_the_action_url(
    edge: Gateway, owner: Owner, live: Phone
) -> None:
    await owner.write(live.call)
    await live.socket.close()
    document = await edge.twiml(live.call, "/twiml/after", CallStatus="in-progress")
    assert verbs(document) == ["Connect", "Hangup"]
    async with phone(stream_url(document), live.call) as again:
        await again.start()
        await eventually(lambda: owner.control(leg=2) == ["started"])
        owner.say(live.call, b"\x01" * 160)
        assert (await again.receive())["event"] == "media"


async def test_a_phone_that_does_not_read_loses_audio_and_no_control(
    nats_url: str, owner: Owner
) -> None:
    call = new_call()
    before = metric("dropped_audio_bytes_total", where="phone")
    async with (
        gateway(nats_url, limits=Limits(write_buffer_bytes=64 * 1024)) as edge,
        phone(stream_url(await edge.twiml(call)), call) as caller,
    ):
        await caller.start()
        await eventually(lambda: owner.control() == ["started"])
        caller.socket.transport.pause_reading()
        sent = 0

        async def dropped() -> bool:
            nonlocal sent
            owner.say(call, b"\x01" * 100_000, Mark(name=str(sent)))
            sent += 1
            await owner.bus.flush()
            return metric("dropped_audio_bytes_total", where="phone") > before

        await eventually(dropped, timeout_s=30)
        owner.say(call, b"\x01" * 100_000, Mark(name="last"))
        caller.socket.transport.resume_reading()
        marks: list[str] = []
        while not marks or marks[-1] != "last":
            message = await caller.receive()
            if message["event"] == "mark":
                marks.append(message["mark"]["name"])
        assert marks == [*map(str, range(sent)), "last"]


async def test_pings_keep_a_silent_stream_and_find_a_dead_one(
    nats_url: str, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrades, "PING_EVERY_S", 0.1)
    call = new_call()
    async with gateway(nats_url) as edge:
        url = f"{edge.ws_url}/call"
        async with edge.http.ws_connect(url, autoping=False) as quiet:
            start = {"streamSid": STREAM, "callSid": call, "accountSid": ACCOUNT}
            await quiet.send_str(json.dumps({"event": "start", "start": start}))
            for _ in range(4):  # answers pings, so it lives
                message = await quiet.receive(timeout=10)
                assert message.type is aiohttp.WSMsgType.PING
                await quiet.pong(message.data)
            message = await quiet.receive(timeout=10)
            while message.type is aiohttp.WSMsgType.PING:  # is not answered any more
                message = await quiet.receive(timeout=10)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    await eventually(lambda: owner.control() == ["started", "lost"])


async def test_stopping_waits_for_calls_to_end(nats_url: str, owner: Owner) -> None:
    call = new_call()
    async with (
        gateway(nats_url, drain_s=60) as edge,
        phone(stream_url(await edge.twiml(call)), call) as caller,
    ):
        await caller.start()
        await eventually(lambda: owner.control() == ["started"])
        edge.life.stopping.set()
        status, text = await edge.get("/readyz")
        assert (status, "stopping" in text) == (503, True)
        # Webhooks are answered, and the call goes on.
        assert verbs(await edge.twiml(new_call())) == ["Connect", "Hangup"]
        await caller.speak(*frames(3))
        await eventually(lambda: len(owner.audio) == 480)
        assert not edge.running.done()
        await caller.stop()
        await asyncio.wait_for(edge.running, 10)
    assert owner.control() == ["started", "stopped"]


async def test_stopping_closes_what_is_left_so_that_twilio_asks_again(
    nats_url: str, owner: Owner
) -> None:
    call = new_call()
    async with (
        gateway(nats_url, drain_s=0) as edge,
        phone(stream_url(await edge.twiml(call)), call) as caller,
    ):
        await caller.start()
        await eventually(lambda: owner.control() == ["started"])
        edge.life.stopping.set()
        assert await caller.closed() == 1012
        await asyncio.wait_for(edge.running, 10)
    await eventually(lambda: owner.control() == ["started", "lost"])
    assert owner.heard[-1] == (1, LegLost(reason="gateway stops (1012)"))


async def test_nothing_is_left_whatever_way_a_stream_ends(nats_url: str, owner: Owner) -> None:
    async def stopped(caller: Phone) -> None:
        await caller.stop()

    async def closed(caller: Phone) -> None:
        await caller.socket.close()

    async def broken(caller: Phone) -> None:
        caller.socket.transport.abort()

    async def hung_up(caller: Phone) -> None:
        owner.say(caller.call, HangUpLeg())
        await caller.closed()

    async def moved(caller: Phone) -> None:
        owner.say(caller.call, Move(leg=99))
        await caller.closed()

    async def huge(caller: Phone) -> None:
        await caller.socket.send("x" * 70_000)
        await caller.closed()

    async with gateway(nats_url) as edge:
        await edge.twiml(new_call())  # opens connections and handles that stay
        await edge.get("/tools")  # the first search is over
        tasks, subscriptions = len(asyncio.all_tasks()), edge.bus.subscriptions
        for leg, end in enumerate((stopped, closed, broken, hung_up, moved, huge), start=1):
            call = new_call()
            async with phone(stream_url(await edge.twiml(call)), call) as caller:
                await caller.start()
                await eventually(partial(owner.control, leg))
                assert metric("streams") == 1
                await end(caller)
            await eventually(lambda: metric("streams") == 0)
            await eventually(lambda: edge.bus.subscriptions == subscriptions)
            await eventually(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_a_stream_outlives_a_restart_of_nats(own_broker: Broker) -> None:
    settings = ServiceSettings(nats_url=own_broker.url, _env_file=None)
    bus = await Bus.connect(settings, "test", name="test")
    try:
        await provision(bus, settings)
        call = new_call()
        async with (
            Owner(bus) as owner,
            gateway(own_broker.url) as edge,
            phone(stream_url(await edge.twiml(call)), call) as caller,
        ):
            await caller.start()
            await eventually(lambda: owner.control() == ["started"])
            own_broker.stop()
            await eventually(lambda: not edge.bus.connected and not bus.connected)
            await caller.speak(*frames(3))  # dropped and counted
            await eventually(lambda: edge.bus.dropped_audio_bytes == 3 * 160)
            own_broker.start()
            for one in (edge.bus, bus):
                await eventually(partial(getattr, one, "connected"))
                await one.flush()  # subscriptions are made again
            await caller.press("7")
            await eventually(lambda: owner.control() == ["started", "dtmf"])
            owner.say(call, b"\x01" * 160, Mark(name="back"))
            assert (await caller.receive())["event"] == "media"
            assert (await caller.receive())["mark"] == {"name": "back"}
            await caller.speak(*frames(2, first=9))
            await eventually(lambda: owner.audio.endswith(b"\x0a" * 160))
            assert owner.audio == b"".join(frames(2, first=9))
    finally:
        await bus.close()


async def test_many_calls_do_not_hear_each_other(edge: Gateway, owner: Owner) -> None:
    async def one(number: int) -> None:
        call = new_call()
        async with phone(stream_url(await edge.twiml(call)), call) as caller:
            await caller.start()
            await eventually(lambda: owner.control().count("started") == 10)
            owner.say(call, bytes([number]) * 160, Mark(name=call))
            assert (await caller.receive())["media"] == {"payload": _base64(bytes([number]) * 160)}
            assert (await caller.receive())["mark"] == {"name": call}
            await caller.speak(*frames(5, first=number * 10))
            await caller.stop()
            await caller.closed()

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(one(number))
    await eventually(lambda: owner.control().count("stopped") == 10)
    for leg in range(1, 11):
        said = b"".join(what for of, what in owner.heard if of == leg and isinstance(what, bytes))
        assert said in [b"".join(frames(5, first=number * 10)) for number in range(10)]
