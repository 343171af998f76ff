"""Pages about tools and hold music: what is on the bus now, and what is not."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import nats.micro
import pytest
from nats.aio.msg import Msg
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, ServiceConfig

from services.gateway import pages
from shared import subjects, tools
from shared.bus import Bus
from shared.messages import Message, MusicFiles, MusicStatus, ToolInfo
from tests.helpers import eventually
from tests.unit.gateway.house import Gateway, gateway, new_call

pytestmark = pytest.mark.e2e

WEATHER = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}


async def page(edge: Gateway, path: str) -> tuple[int, Any]:
    status, text = await edge.get(path)
    return status, json.loads(text)


# --- tools ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def tool(bus: Bus, name: str, **metadata: str) -> AsyncIterator[None]:
    """A micro service with one tool."""

    async def answer(request: Request) -> None:
        await request.respond(b"{}")

    service = await nats.micro.add_service(
        bus.client, ServiceConfig(name=f"svc-{name}", version="0.0.1")
    )
    config = EndpointConfig(name=name, handler=answer, subject=f"tool.{name}", metadata=metadata)
    await service.add_endpoint(config)
    await bus.flush()
    try:
        yield
    finally:
        await service.stop()


async def names(edge: Gateway) -> list[str]:
    status, found = await page(edge, "/tools")
    assert status == 200
    return [one["name"] for one in found]


async def test_tools_are_listed_once_as_function_schemas(nats_url: str, bus: Bus) -> None:
    about = {"description": "The weather.", "parameters": json.dumps(WEATHER)}
    async with (
        tool(bus, "weather_a", **about),
        tool(bus, "weather_a", **about),  # two instances of one service
        tool(bus, "broken_a", parameters="no JSON"),
        gateway(nats_url) as edge,
    ):
        status, found = await page(edge, "/tools")
        assert status == 200
        ours = [one for one in found if one["name"] in ("weather_a", "broken_a")]
        assert ours == [
            {
                "type": "function",
                "name": "weather_a",
                "description": "The weather.",
                "parameters": WEATHER,
            }
        ]


async def test_tools_come_and_go(nats_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "REFRESH_EVERY_S", 0.05)
    monkeypatch.setattr(tools, "COLLECT_S", 0.1)
    async with gateway(nats_url) as edge:
        assert "weather_b" not in await names(edge)

        async def listed() -> bool:
            return "weather_b" in await names(edge)

        async def gone() -> bool:
            return not await listed()

        async with tool(bus, "weather_b"):
            await eventually(listed)
        await eventually(gone)


def test_a_schema_is_what_openai_wants() -> None:
    found = pages.schema(ToolInfo(name="ping"))
    assert found["type"] == "function"
    assert found["parameters"] == {"type": "object", "properties": {}}


# --- hold music ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def music(bus: Bus, subject: str, answer: Message | bytes | None) -> AsyncIterator[None]:
    async def handle(msg: Msg) -> None:
        if answer is not None:
            await msg.respond(answer if isinstance(answer, bytes) else answer.encode())

    subscription = await bus.subscribe(subject, handle, queue=subjects.MUSICIANS)
    await bus.flush()
    try:
        yield
    finally:
        await bus.unsubscribe(subscription)
        await bus.flush()


async def test_the_state_of_the_music_service(edge: Gateway, bus: Bus) -> None:
    call = new_call()
    state = MusicStatus.model_validate(
        {
            "instance": "hm-1",
            "stores": [
                {"name": "primary", "endpoint": "http://127.0.0.1:8333", "ok": True, "tracks": 3},
                {"name": "fallback", "endpoint": "http://b:1", "ok": False, "error": "refused"},
            ],
            "default_track": "bossa.mp3",
            "holds": [call],
        }
    )
    async with music(bus, subjects.HOLD_STATUS, state):
        status, body = await page(edge, "/hold-music/status")
    assert status == 200
    assert body["available"] is True
    assert body["message"] == "Hold music plays from 1 of 2 stores; 1 call hears it now."
    assert body["endpoints"] == {
        "status": "/hold-music/status",
        "files": "/hold-music/files",
    }
    assert (body["defaultTrack"], body["holds"]) == ("bossa.mp3", [call])
    assert [(one["name"], one["ok"], one["tracks"]) for one in body["stores"]] == [
        ("primary", True, 3),
        ("fallback", False, 0),
    ]


async def test_a_music_service_without_a_store(edge: Gateway, bus: Bus) -> None:
    async with music(bus, subjects.HOLD_STATUS, MusicStatus(instance="hm-1")):
        _, body = await page(edge, "/hold-music/status")
    assert body["message"] == "Hold music plays the built-in track; 0 calls hear it now."


@pytest.mark.parametrize(
    ("answer", "words"), [("away", "not running"), (None, "does not answer"), (b"?", "no sense")]
)
async def test_without_the_music_service_the_pages_say_so(
    edge: Gateway,
    bus: Bus,
    monkeypatch: pytest.MonkeyPatch,
    answer: str | bytes | None,
    words: str,
) -> None:
    monkeypatch.setattr(pages, "MUSIC_TIMEOUT_S", 0.2)
    async with contextlib.AsyncExitStack() as stack:
        if not isinstance(answer, str):
            for subject in (subjects.HOLD_STATUS, subjects.HOLD_FILES):
                await stack.enter_async_context(music(bus, subject, answer))
        status, body = await page(edge, "/hold-music/status")
        assert (status, body["available"], body["stores"], body["holds"]) == (200, False, [], [])
        assert words in body["message"]
        assert set(body) == {
            *("message", "endpoints", "available"),
            *("stores", "defaultTrack", "holds"),
        }
        status, body = await page(edge, "/hold-music/files")
        assert status == 503
        assert (body["files"], body["totalFiles"], body["supportedFormats"]) == ([], 0, [])
        assert words in body["error"]


async def test_the_files_in_the_store(edge: Gateway, bus: Bus) -> None:
    files = MusicFiles.model_validate(
        {
            "files": [
                {"key": "bossa.mp3", "size": 412345, "uploaded": "2026-11-22T10:00:00Z"},
                {"key": "calm.raw", "size": 8000},
            ],
            "supported": [".mp3", ".raw"],
        }
    )
    async with music(bus, subjects.HOLD_FILES, files):
        status, body = await page(edge, "/hold-music/files")
    assert status == 200
    assert body == {
        "files": [
            {"key": "bossa.mp3", "size": 412345, "uploaded": "2026-11-22T10:00:00Z"},
            {"key": "calm.raw", "size": 8000, "uploaded": None},
        ],
        "totalFiles": 2,
        "supportedFormats": [".mp3", ".raw"],
    }


async def test_a_store_that_cannot_be_read_is_503(edge: Gateway, bus: Bus) -> None:
    async with music(bus, subjects.HOLD_FILES, MusicFiles(supported=[".mp3"], error="no bucket")):
        status, body = await page(edge, "/hold-music/files")
    assert status == 503
    assert body == {
        "files": [],
        "totalFiles": 0,
        "supportedFormats": [".mp3"],
        "error": "no bucket",
    }


# --- who may read them ---------------------------------------------------------------------------


@pytest.mark.parametrize("open_status", [False, True])
async def test_beyond_loopback_they_are_closed_unless_opened(
    nats_url: str, bus: Bus, open_status: bool
) -> None:
    async with gateway(
        nats_url,
        listen_host="0.0.0.0",
        public_url="https://voice.example.com",
        allow_unsigned=True,
        open_status=open_status,
    ) as edge:
        for path in ("/tools", "/hold-music/status", "/hold-music/files"):
            status, _ = await edge.get(path)
            assert (status == 404) is not open_status, path


async def test_nothing_of_them_is_left(nats_url: str, bus: Bus) -> None:
    async with gateway(nats_url) as edge:
        await page(edge, "/tools")
        await edge.stop()
        subjects_left = [one.subject for one in edge.bus.client._subs.values()]
    assert not [one for one in subjects_left if "tool" in one or "SRV" in one]
