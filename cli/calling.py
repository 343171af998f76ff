"""A simulated call to any gateway: live transcript, recording, summary."""

import asyncio
import datetime
import json
import pathlib
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import story
from simulators.phone import CallEndedError, Phone
from simulators.scenario import Scenario, Step, StepError, run_scenario

#: After the caller's last step: the goodbye may still be on its way to the story.
STORY_GRACE_S: Final = 3.0

STYLES: Final = {"caller": "cyan", "agent": "green", "tool": "magenta", "music": "blue", "": "dim"}


@dataclass(slots=True)
class CallPlan:
    """Whom to call, and what to do on the line."""

    webhook: str
    scenario: Scenario
    out: pathlib.Path
    auth_token: str | None = None
    account_sid: str | None = None
    nats_url: str | None = None
    caller: str | None = None
    dialled: str | None = None


@dataclass(slots=True)
class CallReport:
    """What came of it."""

    answered: bool
    summary: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    files: list[pathlib.Path] = field(default_factory=list)


def scenario_of_wav(file: pathlib.Path) -> Scenario:
    """Wait for the greeting, play `file`, hear the answer, hang up."""
    return Scenario(
        name=file.stem,
        steps=[
            Step(wait="agent_turn"),
            Step(play=str(file.resolve())),
            Step(wait="agent_turn"),
            Step(hang_up=True),
        ],
    )


class Transcript:
    """Collects the story and prints it as it comes."""

    def __init__(self, console: Console) -> None:
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.ended = asyncio.Event()
        self._console = console

    def on_story(self, name: str, fields: dict[str, Any]) -> None:
        """A line of the call's story from the bus."""
        self.events.append({"event": name, **fields})
        told = story.line(name, fields)
        if told is not None:
            self.add(story.stamp(fields.get("ms", 0)), *told)
        if name == "ended":
            self.ended.set()

    def add(self, stamp: str, who: str, what: str) -> None:
        """One line, printed and kept."""
        self.lines.append(f"{stamp}  {who:7} {what}")
        self._console.print(
            f"[dim]{stamp}[/dim]  [{STYLES[who]}]{who:7}[/] "
            f"[{'' if who else 'dim '}default]{escape(what)}[/]"
        )


async def place(plan: CallPlan, console: Console) -> CallReport:
    """Call, follow the scenario, and write call.wav, transcript.txt and summary.json.

    Raises nothing for a call that goes wrong: the report says how it ended.
    """
    transcript = Transcript(console)
    failure = ""
    async with Phone(
        plan.webhook,
        from_=plan.caller or plan.scenario.from_ or "+15557778888",
        to=plan.dialled or plan.scenario.to or "+15551230000",
        auth_token=plan.auth_token,
        account_sid=plan.account_sid,
        status_callback=_status_url(plan.webhook),
    ) as phone:
        console.print(f"calling [bold]{escape(plan.webhook)}[/] as {phone.identity.call_sid}")
        async with story.follow(
            plan.nats_url, phone.identity.call_sid, transcript.on_story
        ) as told:
            if not told:
                console.print("[yellow]no NATS here: the transcript is of this side only[/]")
            await phone.dial()
            try:
                await run_scenario(phone, plan.scenario)
            except (CallEndedError, StepError) as error:
                failure = str(error)
                console.print(f"[yellow]{escape(failure)}[/]")
            await phone.hang_up()
            if told and phone.streams:
                await _last_line(transcript)
        if not told:
            for event in phone.events:
                transcript.add(story.stamp(event.ms), "", f"{event.kind} {event.detail}")
        return _report(plan, phone, transcript, failure)


def _status_url(webhook: str) -> str:
    return webhook.rsplit("/twiml", 1)[0] + "/twilio/status"


async def _last_line(transcript: Transcript) -> None:
    try:
        await asyncio.wait_for(transcript.ended.wait(), STORY_GRACE_S)
    except TimeoutError:
        transcript.add("--:--.-", "", "the story has no end: is the session service alive?")


def _report(plan: CallPlan, phone: Phone, transcript: Transcript, failure: str) -> CallReport:
    summary: dict[str, Any] = {**phone.summary(), "scenario": plan.scenario.name}
    if failure:
        summary["failure"] = failure
    ended = next((one for one in transcript.events if one["event"] == "ended"), None)
    if ended is not None:
        summary["model_cost_usd"] = ended["cost_usd"]
        summary["tokens"] = ended["tokens"]
    summary["interruptions"] = [
        {"heard_ms": one["heard_ms"], "sent_ms": one["sent_ms"]}
        for one in transcript.events
        if one["event"] == "interrupted"
    ]
    plan.out.mkdir(parents=True, exist_ok=True)
    files = [plan.out / name for name in ("call.wav", "transcript.txt", "summary.json")]
    phone.recording.write_wav(files[0])
    files[1].write_text("\n".join(transcript.lines) + "\n")
    files[2].write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return CallReport(phone.answered_by_agent and not failure, summary, transcript.lines, files)


def default_out(root: pathlib.Path) -> pathlib.Path:
    """A folder for one call, named by the local time."""
    now = datetime.datetime.now().astimezone()
    return root / now.strftime("%Y-%m-%d-%H%M%S")


def summary_table(report: CallReport) -> Table:
    """The figures that matter, for a person."""
    summary = report.summary
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("outcome", escape(str(summary["outcome"]) + _because(summary)))
    table.add_row("duration", _s(summary["duration_ms"]))
    table.add_row("first agent audio", _s(summary["time_to_first_audio_ms"]))
    replies = summary["reply_latencies_ms"]
    if replies:
        middle = sorted(replies)[len(replies) // 2]
        table.add_row("reply latency", f"median {_s(middle)}, worst {_s(max(replies))}")
    table.add_row("agent or music", _s(summary["agent_talk_ms"]))
    table.add_row("caller spoke", _s(summary["caller_talk_ms"]))
    for barge_in in summary["barge_ins"]:
        table.add_row(
            "barge-in",
            f"at {_s(barge_in['at_ms'])}, silent after {_s(barge_in['silent_after_ms'])}",
        )
    for cut in summary["interruptions"]:
        table.add_row("interrupted", f"{_s(cut['heard_ms'])} of {_s(cut['sent_ms'])} were heard")
    if "model_cost_usd" in summary:
        table.add_row("model cost", f"${summary['model_cost_usd']:.4f} at list prices")
    for text in summary["announcements"]:
        table.add_row("announcement", escape(text))
    for warning in summary["warnings"]:
        table.add_row("Twilio would warn", f"{warning['code']} {escape(warning['text'])}")
    for file in report.files:
        table.add_row("written", str(file))
    return table


def _because(summary: dict[str, Any]) -> str:
    return f" ({summary['reason']})" if summary["reason"] else ""


def _s(ms: int | None) -> str:
    return "none" if ms is None else f"{ms / 1000:.2f} s"
