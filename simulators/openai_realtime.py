"""A stand-in for OpenAI's Realtime API: `python -m simulators.openai_realtime --help`.

In a test or a tool:

    sim = RealtimeSimulator(scripts={"acme": Script.model_validate({...})}, faults=Faults())
    await sim.start()              # or: async with RealtimeSimulator(...) as sim
    sim.url                        # "ws://127.0.0.1:PORT/v1/realtime"; the model is the script
    sim.connections[-1].transcript
    await sim.stop()
"""

import argparse
import ast
import asyncio
import inspect
import itertools
import json
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

from simulators.realtime import faults as fault_switches, script as scripts
from simulators.realtime.faults import Faults
from simulators.realtime.record import Connection
from simulators.realtime.script import DEFAULT_SCRIPTS, Call, Script, Step, Turn
from simulators.realtime.server import RealtimeSimulator

__all__ = [
    "DEFAULT_SCRIPTS",
    "Call",
    "Connection",
    "Faults",
    "RealtimeSimulator",
    "Script",
    "Step",
    "Turn",
    "main",
]

_EPILOG = """
A client connects to the URL printed, with ?model=NAME and any bearer key (or the one of --key).
NAME is the name of a script; gpt-realtime-2.1 and gpt-realtime-2.1-mini are always there, with a
short receptionist. A script is JSON:

  {"name": "acme",
   "greeting": {"say": "Hello, this is Acme. How can I help?"},
   "turns": [
     {"hear": "What's the weather in Oslo?", "say": "One moment.",
      "call": [{"name": "get_weather", "arguments": {"location": "Oslo"}}],
      "then": {"say": "It is {temp} degrees in Oslo.", "on_error": "The weather is closed."}},
     {"hear": "Thanks, bye.", "say": "Goodbye!"}],
   "otherwise": {"hear": "(simulated transcript)", "say": "I heard you."},
   "think_ms": 300}

The caller's n-th turn is found by its sound and answered by the n-th of "turns", whatever was
really said. {temp} is filled from the JSON output of the call. A step may have "audio_ms",
"phase" and "think_ms"; a "then" may call again.

Faults, each as --fault KEY=VALUE:

"""

_EXAMPLES = """

Examples: --fault dial_delay_ms=3000
          --fault drop_on=response.created --fault drop_on_nth=2 --fault first_n=1
          --fault error_events='[[5000,{"code":"rate_limit_exceeded"}]]'
"""


def _help_of_faults() -> str:
    """Return each switch with its default and the docstring under it in the source."""
    defaults = vars(Faults())
    (switches,) = ast.parse(inspect.getsource(Faults)).body
    assert isinstance(switches, ast.ClassDef)
    lines: list[str] = []
    for field, below in itertools.pairwise(switches.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name)
            default = defaults[field.target.id]
            text = " ".join(str(ast.literal_eval(below.value)).split())
            lines.append(f"  {field.target.id} (default {default!r})")
            lines += textwrap.wrap(text, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines) + _EXAMPLES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.openai_realtime",
        description="Play OpenAI's Realtime API on this machine, by script, with real speech.",
        epilog=_EPILOG + _help_of_faults(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument(
        "--script",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a script; its name becomes a model name; may be repeated",
    )
    parser.add_argument("--key", help="accept only this API key; without it, any")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="let something go wrong, see below; may be repeated",
    )
    parser.add_argument(
        "--speed", type=float, default=8.0, help="audio generation, times real time (%(default)s)"
    )
    parser.add_argument("--log", action="store_true", help="write every event to stderr")
    return parser


def _write_event(direction: str, event: dict[str, Any]) -> None:
    sys.stderr.write(f"{direction} {json.dumps(event, ensure_ascii=False)}\n")


async def _run(simulator: RealtimeSimulator) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with simulator:
        sys.stdout.write(f"{simulator.url}\n")
        sys.stdout.flush()
        await stopped.wait()


def main(argv: list[str] | None = None) -> int:
    """Run the simulator until SIGTERM or SIGINT."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        loaded = [scripts.load(path) for path in options.script]
        faults = fault_switches.parsed(options.fault)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    simulator = RealtimeSimulator(
        host=options.host,
        port=options.port,
        scripts={script.name: script for script in loaded},
        api_key=options.key,
        faults=faults,
        generation_speed=options.speed,
        on_event=_write_event if options.log else None,
    )
    asyncio.run(_run(simulator))
    return 0


if __name__ == "__main__":
    sys.exit(main())
