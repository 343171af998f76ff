"""`switchboard`: the commands.  Each reads its options, does one thing, and says what it did."""

import asyncio
import contextlib
import pathlib
import signal
import tempfile
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cli import agents, calling, doctor as examiner, here, logs, tracks
from cli.processes import Child, ChildFailedError
from cli.screen import console, errors, fail
from cli.stack import Options, Stack, Surroundings
from shared.settings import faults
from simulators.scenario import Scenario, ScenarioError, load_scenario

app = typer.Typer(
    help="Put a realtime voice model on a phone line. Start with `switchboard demo`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(agents.app, name="agents")
app.add_typer(tracks.app, name="tracks")
app.command("logs")(logs.logs)

SIMULATORS = pathlib.Path(__file__).parent.parent / "simulators"
DEMO = SIMULATORS / "scenarios" / "demo.json"
DEMO_SCRIPT = SIMULATORS / "scripts" / "demo.json"


def main() -> None:
    """The entry point of the command `switchboard`."""
    app()


def _surroundings() -> Surroundings:
    try:
        return Surroundings()
    except ValidationError as error:
        fail("\n".join(faults(error, Surroundings)), "correct it in the environment or in .env")


def _progress(text: str) -> None:
    errors.print(f"[dim]{escape(text)}[/]")


# --- up ------------------------------------------------------------------------------------------


@app.command()
def up(
    simulate: Annotated[
        bool, typer.Option("--simulate", help="use the simulated model even with a key")
    ] = False,
    script: Annotated[
        list[pathlib.Path] | None,
        typer.Option(help="a script for the simulated model; its name is the model's name"),
    ] = None,
) -> None:
    """Run everything on this machine until Ctrl-C: broker, services, and a simulated model if no
    OPENAI_API_KEY is set.

    Settings come from the environment and from .env. Logs go to .switchboard/logs/.
    """
    arguments = [part for file in script or [] for part in ("--script", str(file))]
    options = Options(
        data=here.DATA,
        surroundings=_surroundings(),
        simulate=simulate,
        model_arguments=arguments,
    )
    raise typer.Exit(asyncio.run(_up(options)))


async def _up(options: Options) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop.set)
    try:
        async with Stack(options, _progress) as stack:
            with here.announced(
                gateway_url=stack.gateway_url, nats_url=stack.nats_url, **stack.object_store
            ):
                console.print(_screen(stack))
                dead = await _until(stop, stack)
            if dead is not None:
                errors.print(f"[red]{dead.name} stopped by itself:[/]\n{escape(dead.tail())}")
                return 1
    except ChildFailedError as error:
        errors.print(f"[red]{escape(str(error))}[/]")
        return 1
    return 0


async def _until(stop: asyncio.Event, stack: Stack) -> Child | None:
    """Wait for Ctrl-C (None) or for the first part that dies."""
    stopped = asyncio.create_task(stop.wait())
    died = asyncio.create_task(stack.first_death())
    done, pending = await asyncio.wait({stopped, died}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return None if stopped in done else died.result()


def _screen(stack: Stack) -> Panel:
    around = stack.options.surroundings
    public = (around.public_url or stack.gateway_url).rstrip("/")
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("webhook", f"{public}/twiml")
    table.add_row("gateway", stack.gateway_url)
    table.add_row("broker", stack.nats_url)
    model = stack.simulated.get("model")
    table.add_row("model", f"[yellow]SIMULATED[/] {model}" if model else f"real: {stack.model_url}")
    table.add_row(
        "phone",
        "Twilio, signatures checked"
        if around.twilio_auth_token
        else "[yellow]UNSIGNED[/] anybody on this machine may call; set TWILIO_AUTH_TOKEN",
    )
    table.add_row("tracks", _tracks(stack))
    table.add_row("logs", str(stack.options.data / "logs"))
    table.add_row("", "")
    table.add_row("call it", "switchboard call        (in another terminal)")
    table.add_row("watch", "switchboard logs --follow")
    table.add_row("stop", "Ctrl-C")
    return Panel(table, title="Switchboard is up", expand=False)


def _tracks(stack: Stack) -> str:
    """Where hold music comes from, and what plays when nothing else is said."""
    if stack.simulated.get("object store"):
        return f"[yellow]no object store:[/] {escape(stack.simulated['object store'])}"
    where = stack.object_store.get("s3_url") or stack.options.surroundings.s3_url
    return f"{where}, else the built-in one; see `switchboard tracks`"


# --- call ----------------------------------------------------------------------------------------


@app.command()
def call(
    url: Annotated[
        str | None,
        typer.Option(help="the gateway or its webhook; default: the running `switchboard up`"),
    ] = None,
    scenario: Annotated[
        pathlib.Path | None, typer.Option(help="a scenario file; default: the demo")
    ] = None,
    wav: Annotated[
        pathlib.Path | None, typer.Option(help="say this 16-bit WAV file instead of a scenario")
    ] = None,
    to: Annotated[str | None, typer.Option(help="the number that is dialled")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="the caller's number")] = None,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="folder for the files; default: calls/TIME")
    ] = None,
    nats_url: Annotated[
        str | None,
        typer.Option(envvar="NATS_URL", help="where the story is; default: `switchboard up`'s"),
    ] = None,
    auth_token: Annotated[
        str | None,
        typer.Option(
            envvar="TWILIO_AUTH_TOKEN",
            help="sign as Twilio would; default: from .env",
            show_envvar=True,
        ),
    ] = None,
) -> None:
    """Place a simulated call: a caller with a synthetic voice, on a recorded line.

    Writes call.wav (left the caller, right what the caller heard), transcript.txt and
    summary.json. Exit code 0 if the agent answered and the scenario was played to its end.
    """
    around = _surroundings()
    known = here.running()
    base = url or known.get("gateway_url") or f"http://127.0.0.1:{around.listen_port}"
    plan = calling.CallPlan(
        webhook=base if base.rstrip("/").endswith("/twiml") else base.rstrip("/") + "/twiml",
        scenario=_scenario(scenario, wav),
        out=out or calling.default_out(pathlib.Path("calls")),
        auth_token=auth_token or around.twilio_auth_token,
        account_sid=around.twilio_account_sid,
        nats_url=nats_url or known.get("nats_url") or around.nats_url,
        caller=from_,
        dialled=to,
    )
    report = asyncio.run(calling.place(plan, console))
    console.print(calling.summary_table(report))
    raise typer.Exit(0 if report.answered else 1)


def _scenario(file: pathlib.Path | None, wav: pathlib.Path | None) -> Scenario:
    if wav is not None:
        if not wav.exists():
            fail(f"{wav} does not exist", "give a 16-bit WAV file")
        return calling.scenario_of_wav(wav)
    try:
        return load_scenario(file or DEMO)
    except ScenarioError as error:
        fail(str(error), f"a scenario to start from: {DEMO}")


# --- demo ----------------------------------------------------------------------------------------


@app.command()
def demo(
    out: Annotated[pathlib.Path, typer.Option(help="folder for the files")] = pathlib.Path(
        "calls/demo"
    ),
) -> None:
    """Hear it work with no account: start everything on free ports, place a call with an
    interruption, print what happened, and stop.
    """
    raise typer.Exit(asyncio.run(_demo(out)))


async def _demo(out: pathlib.Path) -> int:
    with tempfile.TemporaryDirectory(prefix="switchboard-demo-") as folder:
        options = Options(
            data=pathlib.Path(folder),
            surroundings=Surroundings.model_construct(),
            any_ports=True,
            simulate=True,
            model_arguments=["--script", str(DEMO_SCRIPT)],
            # Two questions to the weather service, so that the caller waits for about four seconds.
            weather_delay_ms=2000,
            # The demo is the same whatever .env says.
            env={"TWILIO_AUTH_TOKEN": "", "TWILIO_ACCOUNT_SID": "", "PRICES_FILE": ""},
        )
        try:
            async with Stack(options, _progress) as stack:
                console.print(
                    "Everything runs on this machine. [yellow]The model and the phone are "
                    "simulated[/]; broker and services are real.\n"
                )
                plan = calling.CallPlan(
                    webhook=f"{stack.gateway_url}/twiml",
                    scenario=load_scenario(DEMO),
                    out=out,
                    nats_url=stack.nats_url,
                )
                report = await calling.place(plan, console)
        except ChildFailedError as error:
            errors.print(f"[red]{escape(str(error))}[/]")
            return 1
    console.print(Panel(calling.summary_table(report), title="The call", expand=False))
    console.print(
        f"\nListen: [bold]{out / 'call.wav'}[/] (left the caller, right what the caller heard)\n"
        "Next:   [bold]switchboard up[/], then [bold]switchboard call --wav YOUR.wav[/]\n"
        "        with OPENAI_API_KEY in .env the real model answers; see README.md\n"
    )
    return 0 if report.answered else 1


# --- doctor --------------------------------------------------------------------------------------


@app.command()
def doctor() -> None:
    """Check settings, ports, broker, keys and public URL, and say what to do. Exit code 1 if
    something would keep calls from working.
    """
    findings = asyncio.run(examiner.examine(here.DATA))
    marks = {"ok": "[green]ok   [/]", "note": "[yellow]note [/]", "fault": "[red]fault[/]"}
    for finding in findings:
        console.print(f"{marks[finding.state]} {finding.part:11} {escape(finding.text)}")
        if finding.remedy:
            console.print(f"{'':18}[dim]{escape(finding.remedy)}[/]")
    raise typer.Exit(1 if any(one.state == "fault" for one in findings) else 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
