import json
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simulators import g711
from simulators.phone import OutcomeKind, Phone
from simulators.phone_command import main
from simulators.phone_summary import judge
from simulators.scenario import ScenarioError, StepError, load_scenario, run_scenario
from tests.unit.simulators.voice_server import Socket, VoiceServer, tone, voice_server

pytestmark = pytest.mark.unit


@pytest.fixture
async def server() -> AsyncIterator[VoiceServer]:
    """A server whose agent greets, and speaks for long when a key is pressed."""

    async def agent(socket: Socket, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            await socket.play(tone(200))
        if message["event"] == "dtmf":
            await socket.play(tone(5000))

    async with voice_server() as server:
        server.agent = agent
        server.answer("/twiml", f"<Connect>{server.stream()}</Connect>")
        yield server


def _write(path: Path, steps: object, **fields: object) -> Path:
    path.write_text(json.dumps({"name": "test", "steps": steps} | fields))
    return path


def test_demo_is_a_valid_scenario() -> None:
    scenario = load_scenario("simulators/scenarios/demo.json")
    assert scenario.from_ == "+15557778888"
    assert scenario.steps[-1].wait == "ended"  # the agent hangs up


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([], "steps: List should have at least 1 item"),
        ([{"wait": "ended"}, {"sey": "x"}], "step 2: sey: Extra inputs are not permitted"),
        ([{}], "step 1: no action in one step"),
        ([{"say": "x", "hang_up": True}], "step 1: say and hang_up in one step"),
        ([{"wait": "rain"}], "step 1: wait: Input should be 'agent_turn', 'agent_quiet'"),
        ([{"dtmf": "12x"}], "step 1: dtmf: String should match"),
        ([{"pause_ms": -1}], "step 1: pause_ms: Input should be greater"),
        ([{"pause_ms": 1, "voice": "caller2"}], "step 1: voice does not go with pause_ms"),
        ([{"play": "gone.wav"}], "step 1: there is no file"),
        ([7], "step 1: Input should be"),
    ],
)
def test_mistake_is_explained(tmp_path: Path, steps: object, complaint: str) -> None:
    path = _write(tmp_path / "s.json", steps)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert f"{path}: {complaint}" in str(caught.value)


def test_mistake_in_a_step_says_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r'a step is one of \{"wait"'):
        load_scenario(_write(tmp_path / "s.json", [{"hum": "la"}]))


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_what_is_no_scenario_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(ScenarioError, match=r"s\.json: "):
        load_scenario(path)


def test_missing_scenario_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read: No such file"):
        load_scenario(tmp_path / "none.json")


async def test_steps_are_performed_in_order(server: VoiceServer, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "beep.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(g711.decode(tone(200)).tobytes())
    scenario = load_scenario(
        _write(
            tmp_path / "s.json",
            [
                {"wait": "agent_turn", "quiet_ms": 200},
                {"dtmf": "1"},
                {"interrupt_after_ms": 300, "play": "beep.wav"},
                {"pause_ms": 10},
                {"hang_up": True},
            ],
        )
    )
    async with Phone(f"{server.url}/twiml") as phone:
        await run_scenario(phone, scenario)
    assert phone.outcome.kind is OutcomeKind.COMPLETED_BY_CALLER
    kinds = [event.kind for event in phone.events]
    for earlier, later in [("first_audio", "dtmf"), ("dtmf", "caller_plays")]:
        assert kinds.index(earlier) < kinds.index(later)
    (interruption,) = judge(phone.recording, stream_began_ms=0).barge_ins
    assert interruption.silent_after_ms > 0


async def test_call_that_ends_early_ends_the_scenario(server: VoiceServer, tmp_path: Path) -> None:
    server.answer("/twiml", "<Reject/>")
    path = _write(tmp_path / "s.json", [{"wait": "agent_turn"}, {"say": "x"}, {"hang_up": True}])
    async with Phone(f"{server.url}/twiml") as phone:
        await run_scenario(phone, load_scenario(path))
    assert phone.outcome.kind is OutcomeKind.REJECTED


async def test_step_that_does_not_come_true_is_named(server: VoiceServer, tmp_path: Path) -> None:
    path = _write(tmp_path / "s.json", [{"pause_ms": 0}, {"wait": "ended", "timeout_s": 0.1}])
    async with Phone(f"{server.url}/twiml") as phone:
        with pytest.raises(StepError, match=r"test: step 2: waited 0\.1 s in vain for the call"):
            await run_scenario(phone, load_scenario(path))


def test_command_explains_a_wrong_scenario(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _write(tmp_path / "s.json", [{"hum": "la"}])
    assert main(["--webhook", "http://127.0.0.1:1/", "--scenario", str(path)]) == 2
    assert "step 1: hum" in capsys.readouterr().err


def test_command_writes_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path / "s.json", [{"wait": "ended"}])
    out = tmp_path / "out"
    arguments = ["--webhook", "http://127.0.0.1:1/", "--scenario", str(path), "--out", str(out)]
    assert main(arguments) == 1
    assert "failed: 11205" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["outcome"] == "failed"
    assert json.loads((out / "events.json").read_text())[-1]["kind"] == "ended"
    assert (out / "call.wav").is_file()
