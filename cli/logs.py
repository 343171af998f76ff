"""`switchboard logs`: calls that were, and calls as they happen."""

import asyncio
import contextlib
import json
from typing import Annotated, Any, Final

import nats.errors
import typer
from nats.aio.client import Client
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import here, story
from cli.calling import STYLES
from cli.screen import console, errors, fail
from cli.stack import Surroundings
from shared import subjects
from shared.feed import Feed, FeedUnavailableError, Told
from shared.messages import (
    LOGS_ANSWER,
    CallExported,
    CallPage,
    CallSummary,
    ExportCall,
    ListCalls,
    LogsRefused,
    Message,
)
from shared.settings import faults

#: A search by text reads records; a list is there at once.
ANSWER_S: Final = 5.0
#: What one request may ask for.
PAGE_MAX: Final = 200
#: Enough of a call's id to tell its lines from those of others.
SHORT_ID: Final = 8

#: A narrow terminal breaks a row in two; a pipe gets it whole.
TABLE_COLUMNS: Final = 140

STATES: Final = {"ringing": "yellow", "live": "green", "ended": "dim"}


def logs(
    call: Annotated[str | None, typer.Option(help="tell this call's story")] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="show what happens as it happens; with --call from its beginning"
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything, as JSON")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="how many calls to list")] = 20,
    nats_url: Annotated[
        str | None,
        typer.Option(envvar="NATS_URL", help="where the story is; default: `switchboard up`'s"),
    ] = None,
) -> None:
    """List calls, newest first; tell one call's story; or watch calls as they happen."""
    if call is not None and not subjects.is_call_id(call):
        fail(f"{call!r} is no call's id", "take one from `switchboard logs`: CA or BR and 32 hex")
    url = nats_url or here.running().get("nats_url") or _surroundings().nats_url
    if not url:
        fail("no broker found", "start `switchboard up`, or give --nats-url")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(url, call, follow=follow, as_json=as_json, limit=limit))


def _surroundings() -> Surroundings:
    try:
        return Surroundings()
    except ValidationError as error:
        fail("\n".join(faults(error, Surroundings)), "correct it in the environment or in .env")


async def _run(url: str, call: str | None, *, follow: bool, as_json: bool, limit: int) -> None:
    async with story.quiet_client(url) as client:
        if client is None:
            fail(f"NATS does not answer at {url}", "start `switchboard up`, or give --nats-url")
        if follow:
            await _follow(client, call, as_json=as_json)
        elif call is not None:
            await _tell(client, call, as_json=as_json)
        else:
            await _list(client, as_json=as_json, limit=limit)


# --- asking --------------------------------------------------------------------------------------


async def _ask(client: Client, subject: str, request: Message) -> Any:
    try:
        data = (await client.request(subject, request.encode(), timeout=ANSWER_S)).data
        answer = LOGS_ANSWER.validate_json(data)
    except nats.errors.NoRespondersError:
        fail(
            "the logs service does not run",
            "`switchboard up` starts it; alone: python -m services.logs",
        )
    except (nats.errors.Error, TimeoutError):
        fail("the logs service does not answer", "look at its log and its /readyz")
    except ValidationError:
        fail("the logs service answers in another version's words", "update it, or this command")
    if isinstance(answer, LogsRefused):
        if answer.code == "unknown_call":
            fail(answer.message, "see `switchboard logs`; old records go after RECORDS_MAX_AGE_H")
        fail(f"the logs service refuses: {answer.message}", "look at its log and its /readyz")
    return answer


async def _tell(client: Client, call: str, *, as_json: bool) -> None:
    request = ExportCall(call=call, form="json" if as_json else "text")
    answer = await _ask(client, subjects.LOGS_EXPORT, request)
    assert isinstance(answer, CallExported), "it answers what was asked"
    console.out(answer.text, end="", highlight=False)


async def _list(client: Client, *, as_json: bool, limit: int) -> None:
    calls: list[CallSummary] = []
    cursor = ""
    while len(calls) < limit:
        request = ListCalls(limit=min(PAGE_MAX, limit - len(calls)), cursor=cursor)
        page = await _ask(client, subjects.LOGS_LIST, request)
        assert isinstance(page, CallPage), "it answers what was asked"
        calls += page.calls
        cursor = page.cursor
        if not cursor:
            break
    if as_json:
        shown = [one.model_dump(mode="json") for one in calls]
        console.out(json.dumps(shown, indent=2, ensure_ascii=False), highlight=False)
    elif not calls:
        console.print("no calls yet; place one: switchboard call")
    else:
        _wide().print(_table(calls))
        if cursor:
            errors.print("[dim]there are more: --limit[/]")


def _wide() -> Console:
    """A console that cuts nothing of the list."""
    return Console(
        highlight=False, soft_wrap=True, width=max(console.width, TABLE_COLUMNS), file=console.file
    )


def _table(calls: list[CallSummary]) -> Table:
    table = Table(box=None, padding=(0, 1), show_edge=False)
    for name in ("when", "call", "state", "from", "agent", "duration", "lines", "tools", "cost"):
        figure = name in ("duration", "lines", "tools", "cost")
        table.add_column(name, justify="right" if figure else "left", no_wrap=name == "call")
    table.add_column("how it ended")
    for one in calls:
        detail = f" ({one.detail})" if one.detail else ""
        table.add_row(
            f"{one.offered_at.astimezone():%Y-%m-%d %H:%M:%S}",
            one.call,
            f"[{STATES[one.state]}]{one.state}[/]",
            escape(one.caller),
            escape(one.agent),
            f"{one.duration_ms // 60000}:{one.duration_ms // 1000 % 60:02d}",
            str(one.lines),
            str(one.tools_used),
            f"${one.cost_usd:.4f}",
            escape(one.reason + detail),
        )
    return table


# --- following -----------------------------------------------------------------------------------


async def _follow(client: Client, call: str | None, *, as_json: bool) -> None:
    """Until Ctrl-C; one call's until its end."""
    try:
        async with Feed(client, call=call, start="all" if call else "new") as feed:
            if call is None and not as_json:
                errors.print("[dim]waiting for calls; Ctrl-C ends it[/]")
            if call is not None and feed.caught_up.is_set():
                errors.print("[dim]nothing was told of this call yet; Ctrl-C ends it[/]")
            async for told in feed:
                _show(told, alone=call is not None, as_json=as_json)
                if call is not None and told.name == "ended":
                    return
    except FeedUnavailableError as error:
        fail(f"the story cannot be read: {error}", "is JetStream on, and a service started once?")
    fail("the broker is gone", "start it again, then this command")


def _show(told: Told, *, alone: bool, as_json: bool) -> None:
    if as_json:
        whole = {"event": told.name, "sequence": told.sequence, **told.fields}
        console.out(json.dumps(whole, ensure_ascii=False), highlight=False)
        return
    try:
        line = story.line(told.name, told.fields)
        stamp = story.stamp(int(told.fields.get("ms", 0)))
    except (KeyError, TypeError, ValueError):
        return  # another version's words
    if line is None:
        return
    who, what = line
    which = "" if alone else f"[dim]{told.call[:SHORT_ID]}[/]  "
    style = STYLES.get(who, "dim")
    console.print(
        f"{which}[dim]{stamp}[/dim]  [{style}]{escape(who):7}[/] "
        f"[{'' if who else 'dim '}default]{escape(what)}[/]"
    )
