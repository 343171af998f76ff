"""Builds the gateway: the one place where its parts meet."""

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web
from nats.aio.msg import Msg

from services.gateway import tokens
from services.gateway.beats import Beats
from services.gateway.offers import Owners
from services.gateway.pages import Pages
from services.gateway.rest import Rest
from services.gateway.settings import GatewaySettings, origin
from services.gateway.signature import Signatures
from services.gateway.terms import Limits
from services.gateway.twiml import Answers
from services.gateway.updates import Desk
from services.gateway.upgrades import Door, Streams
from services.gateway.webhooks import BODY_LIMIT_BYTES, Minter, Webhooks
from shared import lifecycle, subjects
from shared.bus import Bus
from shared.lifecycle import Lifecycle
from shared.settings import load

log = logging.getLogger(__name__)


def run() -> None:
    """Until SIGTERM."""
    settings = load(GatewaySettings)

    async def main(life: Lifecycle, bus: Bus) -> None:
        await serve(life, bus, settings)

    lifecycle.run("gateway", settings, main, own_http=True)


async def serve(
    life: Lifecycle, bus: Bus, settings: GatewaySettings, *, limits: Limits | None = None
) -> None:
    """Answer phones until `life.stopping`, then end their streams within `DRAIN_S`."""
    host = settings.listen_host.strip("[]")
    # Answers name our URL, so the port must be known before the first request.
    port = settings.listen_port or _free_port(host)
    public = settings.public_url or origin("http", host, port)
    gateway = lifecycle.worker_id("gw")
    secret = _token_secret(settings)
    signatures = _signatures(settings)

    loop = asyncio.get_running_loop()
    beats = Beats(loop.time())

    async def on_beat(msg: Msg) -> None:
        beats.read(msg, loop.time())

    await bus.subscribe(subjects.ALL_BEATS, on_beat)
    owners = Owners(bus, gateway=gateway, offer_timeout_s=settings.offer_timeout_s)
    answers = Answers(
        origin=public,
        busy_answer=settings.busy_answer,
        busy_retries=settings.busy_retries,
        busy_text=settings.busy_text,
        sorry_text=settings.sorry_text,
        voice=settings.say_voice,
        language=settings.say_language,
    )
    minter = Minter(secret, settings.stream_token_ttl_s)
    webhooks = Webhooks(
        answers=answers,
        owners=owners,
        minter=minter,
        signatures=signatures,
        max_legs=settings.max_legs,
        is_dead=lambda worker: beats.is_dead(worker, loop.time()),
    )
    door = Door(
        token_secret=secret,
        signatures=signatures,
        stream_origin=answers.stream_origin,
        bare_allowed=settings.bare_stream_allowed,
        account=settings.twilio_account_sid,
    )
    async with contextlib.AsyncExitStack() as stack:
        rest = await stack.enter_async_context(_rest(settings))
        desk = Desk(rest, answers, minter.mint)
        streams = Streams(door, bus=bus, owners=owners, beats=beats, desk=desk, limits=limits)

        app = web.Application(client_max_size=BODY_LIMIT_BYTES)
        app.add_routes(webhooks.routes())
        app.add_routes(streams.routes())
        app.add_routes([web.get("/public-url", _public_url(public))])
        app.add_routes(life.routes())
        if settings.status_allowed:
            pages = await stack.enter_async_context(Pages(bus))
            app.add_routes(pages.routes())

        tasks = [
            asyncio.create_task(streams.keep_alive(), name="pings"),
            asyncio.create_task(streams.watch_owners(), name="owners"),
        ]
        try:
            async with lifecycle.http_server(app, host, port):
                log.info(
                    "the gateway listens",
                    extra={
                        "gateway": gateway,
                        "host": host,
                        "port": port,
                        "public_url": public,
                        "signed": signatures is not None,
                        "bare_streams": settings.bare_stream_allowed,
                        "transfers": settings.rest_login is not None,
                    },
                )
                await life.stopping.wait()
                # Webhooks are answered until the last stream has ended: a load balancer needs a
                # moment to see that we are not ready any more.
                await streams.drain(settings.drain_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _rest(settings: GatewaySettings) -> Rest:
    return Rest(settings.twilio_api_url, settings.twilio_account_sid, settings.rest_login)


def _public_url(public: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"publicUrl": public})

    return handler


def _signatures(settings: GatewaySettings) -> Signatures | None:
    token = settings.twilio_auth_token
    if token is None:
        log.warning("no TWILIO_AUTH_TOKEN: webhooks and sockets are taken from anybody")
        return None
    return Signatures(token.get_secret_value())


def _token_secret(settings: GatewaySettings) -> bytes:
    """The same for all gateways of an account if it can be, for any of them may get the socket."""
    if settings.stream_token_secret is not None:
        return hashlib.sha256(settings.stream_token_secret.get_secret_value().encode()).digest()
    if settings.twilio_auth_token is not None:
        return tokens.derive_secret(settings.twilio_auth_token.get_secret_value())
    return os.urandom(32)


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port
