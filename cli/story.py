"""A call's story as a person reads it: one line an event, with the call's own time.

Pure but for `follow`, which subscribes.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared import subjects

#: How long to look for a broker before the story is done without.
CONNECT_TIMEOUT_S: Final = 2.0


def stamp(ms: int) -> str:
    """`01:02.3` for 62300 ms."""
    return f"{ms // 60000:02d}:{ms // 1000 % 60:02d}.{ms // 100 % 10}"


def line(name: str, fields: dict[str, Any]) -> tuple[str, str] | None:
    """(who, what) for a line of the transcript; None for events that say nothing to a reader."""
    teller = _TELLERS.get(name)
    return teller(fields) if teller is not None else None


def _seconds(ms: Any) -> str:
    return f"{(ms or 0) / 1000:.2f} s"


def _spoke(fields: dict[str, Any]) -> tuple[str, str] | None:
    if fields.get("latency_ms") is None:
        return None
    after = {"greeting": "pick-up", "caller": "the caller's last word"}.get(fields["after"], "")
    return ("", f"first agent audio {_seconds(fields['latency_ms'])} after {after}")


def _interrupted(fields: dict[str, Any]) -> tuple[str, str]:
    heard, sent = _seconds(fields["heard_ms"]), _seconds(fields["sent_ms"])
    return ("", f"interrupted: {heard} of {sent} were heard")


def _asked(fields: dict[str, Any]) -> tuple[str, str]:
    arguments = " ".join(str(fields["arguments"]).split())
    return ("tool", f"{fields['name']} {arguments[:160]}")


def _answered(fields: dict[str, Any]) -> tuple[str, str]:
    output = " ".join(str(fields["output"]).split())
    failed = f" FAILED ({fields['error']})" if fields.get("error") else ""
    duration = _seconds(fields["duration_ms"])
    return ("tool", f"{fields['name']} answered after {duration}{failed}: {output[:160]}")


def _held(fields: dict[str, Any]) -> tuple[str, str]:
    instead = f" instead: {fields['fallback']}" if fields.get("fallback") else ""
    return ("music", f"{fields['track']} ({fields['source']}){instead}")


def _hold_ended(fields: dict[str, Any]) -> tuple[str, str]:
    if fields["reason"] == "failed":
        return ("music", "none to be had")
    return ("music", f"stopped for the {fields['reason']} after {_seconds(fields['duration_ms'])}")


def _ended(fields: dict[str, Any]) -> tuple[str, str]:
    detail = f" ({fields['detail']})" if fields.get("detail") else ""
    return (
        "",
        f"ended: {fields['reason']}{detail}, after {_seconds(fields['duration_ms'])}, "
        f"model cost ${fields['cost_usd']:.4f}",
    )


_TELLERS: Final[dict[str, Callable[[dict[str, Any]], tuple[str, str] | None]]] = {
    "offered": lambda f: ("", f"ringing; agent {f['agent']!r}, worker {f['worker']}"),
    "model_ready": lambda f: ("", f"model {f['model']} ready after {_seconds(f['dial_ms'])}"),
    "started": lambda f: ("", "picked up"),
    "leg_dropped": lambda f: ("", f"phone lost: {f['reason']}"),
    "leg_replaced": lambda f: ("", f"phone back on leg {f['leg']}"),
    "agent_started_speaking": _spoke,
    "interrupted": _interrupted,
    "transcript": lambda f: (f["who"], f["text"] + (" —" if f.get("interrupted") else "")),
    "tool_called": _asked,
    "tool_answered": _answered,
    "hold_started": _held,
    "hold_ended": _hold_ended,
    "transfer_started": lambda f: ("", f"the caller is being connected with {f['to']}"),
    "transfer_failed": lambda f: ("", f"no connection with {f['to']}: {f['code']}"),
    "digits_sent": lambda f: ("agent", f"[presses {f['digits']}]"),
    "key_pressed": lambda f: ("caller", f"[presses {f['digit']}]"),
    "model_failed": lambda f: ("", f"model: {f['code']} {f['message']} ({f['effect']})"),
    "ended": _ended,
}


@contextlib.asynccontextmanager
async def quiet_client(nats_url: str) -> AsyncIterator[Client | None]:
    """A connection for the time of the block; None when nobody answers at `nats_url`."""
    client = Client()
    try:
        # nats-py tries a first connection again and again: the limit is ours.
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.connect(nats_url.split(","), allow_reconnect=False, error_cb=_quiet)
    except (OSError, TimeoutError, nats.errors.Error):
        await client.close()
        yield None
        return
    try:
        yield client
    finally:
        await client.close()


async def _quiet(_error: Exception) -> None:
    """nats-py prints connection errors by itself otherwise."""


@contextlib.asynccontextmanager
async def follow(
    nats_url: str | None, call: str, on_event: Callable[[str, dict[str, Any]], None]
) -> AsyncIterator[bool]:
    """Hear the story of `call` while the block runs.  Yields whether a broker was found."""

    async def on_message(message: Msg) -> None:
        with contextlib.suppress(ValueError):
            on_event(message.subject.rsplit(".", 1)[1], json.loads(message.data))

    if not nats_url:
        yield False
        return
    async with quiet_client(nats_url) as client:
        if client is not None:
            await client.subscribe(subjects.all_events(call), cb=on_message)
            await client.flush()
        yield client is not None
