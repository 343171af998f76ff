"""The command `python -m simulators.phone`: one simulated call from a shell."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from simulators.phone import Event, Phone
from simulators.scenario import Scenario, ScenarioError, StepError, load_scenario, run_scenario

__all__ = ["main"]

_DEMO = Path(__file__).parent / "scenarios" / "demo.json"

_HELP = """\
Call a webhook as Twilio would, and be the caller.

The phone asks the webhook for TwiML, opens the media stream it names, speaks (with a synthetic
voice) what the scenario says, and plays what comes back in real time. Requests are signed if an
auth token is given, so a gateway under test can keep its checks on.
"""

_EPILOG = """\
examples:
  python -m simulators.phone --webhook http://127.0.0.1:8080/twiml
      the built-in demo: greeting, two questions, an interruption, goodbye

  python -m simulators.phone --webhook http://127.0.0.1:8080/twiml --wav question.wav --out call/
      play a file after the greeting, wait for the answer, hang up

  python -m simulators.phone --webhook https://voice.example.com/twiml --scenario my.json \\
      --auth-token "$TWILIO_AUTH_TOKEN" --account-sid "$TWILIO_ACCOUNT_SID"

written to --out:
  call.wav      stereo, left the caller, right what the caller heard
  events.json   what happened, with the time in milliseconds since the call began
  summary.json  how soon the agent answered, interruptions, warnings Twilio would log, outcome

exit code: 0 if an agent was heard, 1 if not, 2 if the command or the scenario is wrong.
Ctrl-C hangs up, and still writes the files.
A scenario is a JSON file; `simulators/scenarios/demo.json` is one to start from.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        scenario = _scenario(arguments)
    except ScenarioError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    try:
        return asyncio.run(_call(arguments, scenario))
    except KeyboardInterrupt:  # the caller hung up in the meantime, and the files are written
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.phone",
        description=_HELP,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--webhook", required=True, metavar="URL", help="what the number's voice webhook is set to"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--scenario", metavar="FILE", type=Path, default=_DEMO, help="default: demo")
    what.add_argument("--wav", metavar="FILE", type=Path, help="play this instead of a scenario")
    parser.add_argument("--from", dest="from_", metavar="NUMBER", help="who calls")
    parser.add_argument("--to", metavar="NUMBER", help="who is called")
    parser.add_argument(
        "--auth-token",
        default=os.environ.get("TWILIO_AUTH_TOKEN") or None,
        metavar="TOKEN",
        help="sign requests with it (default: $TWILIO_AUTH_TOKEN; without one, nothing is signed)",
    )
    parser.add_argument(
        "--account-sid",
        default=os.environ.get("TWILIO_ACCOUNT_SID") or None,
        metavar="AC...",
        help="default: $TWILIO_ACCOUNT_SID, else a new one",
    )
    parser.add_argument("--status-callback", metavar="URL", help="told when the call is over")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: here")
    return parser


def _scenario(arguments: argparse.Namespace) -> Scenario:
    if arguments.wav is None:
        return load_scenario(arguments.scenario)
    if not arguments.wav.is_file():
        raise ScenarioError(f"there is no file {arguments.wav}")
    return Scenario.model_validate(
        {
            "name": str(arguments.wav),
            "steps": [
                {"wait": "agent_turn"},
                {"play": str(arguments.wav)},
                {"wait": "agent_turn", "quiet_ms": 1500},
                {"hang_up": True},
            ],
        }
    )


async def _call(arguments: argparse.Namespace, scenario: Scenario) -> int:
    phone = Phone(
        arguments.webhook,
        from_=arguments.from_ or scenario.from_,
        to=arguments.to or scenario.to,
        auth_token=arguments.auth_token,
        account_sid=arguments.account_sid,
        status_callback=arguments.status_callback,
        on_event=_print_event,
    )
    try:
        async with phone:
            await run_scenario(phone, scenario)
    except (StepError, ValueError) as exc:
        sys.stderr.write(f"{exc}\n")
    finally:  # an interrupted call has been recorded as well
        _write(phone, arguments.out)
    sys.stdout.write(f"{phone.outcome}; written to {arguments.out / 'call.wav'}\n")
    return 0 if phone.answered_by_agent else 1


def _print_event(event: Event) -> None:
    sys.stdout.write(f"{event.ms / 1000:8.2f} s  {event.kind:<16} {event.detail}\n")
    sys.stdout.flush()


def _write(phone: Phone, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    phone.recording.write_wav(directory / "call.wav")
    events = [event._asdict() for event in phone.events]
    (directory / "events.json").write_text(json.dumps(events, indent=1) + "\n")
    (directory / "summary.json").write_text(json.dumps(phone.summary(), indent=1) + "\n")
