"""`switchboard agents`: look at and change who answers, in KV `agents`."""

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, TypeVar

import nats.errors
import nats.js.errors
import typer
from nats.js.kv import KeyValue
from pydantic import ValidationError

from cli import here
from cli.screen import console, fail
from cli.story import quiet_client
from shared import subjects
from shared.messages import AgentSettings

app = typer.Typer(
    help="Look at and change the agents. A change holds for the next call.",
    no_args_is_help=True,
)

NatsUrl = Annotated[
    str | None,
    typer.Option("--nats-url", envvar="NATS_URL", help="default: the running `switchboard up`"),
]
T = TypeVar("T")


@contextlib.asynccontextmanager
async def _bucket(nats_url: str | None) -> AsyncIterator[KeyValue]:
    url = nats_url or here.running().get("nats_url")
    if not url:
        fail("no NATS found", "start `switchboard up`, or give --nats-url")
    async with quiet_client(url) as client:
        if client is None:
            fail(f"NATS does not answer at {url}", "start it, or give another --nats-url")
        try:
            yield await client.jetstream().key_value(subjects.AGENTS_BUCKET)
        except nats.js.errors.NotFoundError:
            fail("there are no agents yet", "start the services once: they make the default one")


def _run(nats_url: str | None, work: Callable[[KeyValue], Awaitable[T]]) -> T:
    async def body() -> T:
        async with _bucket(nats_url) as bucket:
            return await work(bucket)

    return asyncio.run(body())


@app.command("list")
def list_agents(nats_url: NatsUrl = None) -> None:
    """One line an agent: id, name, model, voice, numbers."""

    async def work(bucket: KeyValue) -> list[AgentSettings]:
        try:
            keys = await bucket.keys()
        except nats.js.errors.NoKeysError:
            return []
        return [AgentSettings.decode((await bucket.get(key)).value or b"") for key in keys]

    for agent in _run(nats_url, work):
        numbers = ", ".join(agent.numbers) or "every other number"
        console.print(f"{agent.id}  {agent.name}  {agent.model}  {agent.voice}  {numbers}")


@app.command()
def show(agent: str = "default", nats_url: NatsUrl = None) -> None:
    """An agent's settings as JSON, ready to be edited and given to `set`."""

    async def work(bucket: KeyValue) -> bytes:
        try:
            return (await bucket.get(agent)).value or b""
        except nats.js.errors.KeyNotFoundError:
            fail(f"no agent {agent!r}", "see `switchboard agents list`")

    console.print_json(_run(nats_url, work).decode())


@app.command("set")
def set_agent(
    file: Annotated[pathlib.Path, typer.Argument(help="JSON, as printed by `show`; - for stdin")],
    nats_url: NatsUrl = None,
) -> None:
    """Write an agent's settings; unknown fields and wrong values are refused."""
    text = typer.get_text_stream("stdin").read() if str(file) == "-" else _read(file)
    settings = _checked(text)

    async def work(bucket: KeyValue) -> None:
        await bucket.put(settings.id, settings.encode())

    _run(nats_url, work)
    console.print(f"agent {settings.id!r} is saved: the next call has it")


def _read(file: pathlib.Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        fail(f"{file}: {error.strerror}", "give a readable JSON file")


def _checked(text: str) -> AgentSettings:
    try:
        fields: dict[str, Any] = json.loads(text)
        unknown = set(fields) - set(AgentSettings.model_fields)
        if unknown:
            fail(f"unknown fields: {', '.join(sorted(unknown))}", "see `switchboard agents show`")
        return AgentSettings.model_validate(fields)
    except (json.JSONDecodeError, TypeError) as error:
        fail(f"not a JSON object: {error}", "see `switchboard agents show`")
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        ]
        fail("the settings are wrong:\n  " + "\n  ".join(lines), "correct them and try again")
