"""`switchboard doctor` says what is wrong and what to do."""

import pathlib

import pytest

from cli import doctor
from cli.processes import free_port

pytestmark = pytest.mark.unit

VARIABLES = (
    "NATS_URL",
    "OPENAI_API_KEY",
    "OPENAI_REALTIME_URL",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_ACCOUNT_SID",
    "PUBLIC_URL",
    "LISTEN_HOST",
    "LISTEN_PORT",
)


@pytest.fixture(autouse=True)
def empty_place(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No .env, no variables of the machine's own, and a free port."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LISTEN_PORT", str(free_port()))


async def found(part: str) -> list[doctor.Finding]:
    findings = await doctor.examine(pathlib.Path(".switchboard"))
    return [finding for finding in findings if finding.part == part]


async def test_with_nothing_set_everything_works_and_says_what_is_simulated() -> None:
    findings = await doctor.examine(pathlib.Path(".switchboard"))
    assert [finding for finding in findings if finding.state == "fault"] == []
    model = next(finding for finding in findings if finding.part == "model")
    assert (model.state, model.text) == ("note", "simulated")
    assert all(finding.remedy for finding in findings if finding.state != "ok")


async def test_faults_of_all_services_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CALLS", "0")
    monkeypatch.setenv("BUSY_ANSWER", "sing")
    monkeypatch.setenv("PUBLIC_URL", "ftp://nowhere")
    text = " ".join(finding.text for finding in await found("settings"))
    for variable in ("MAX_CALLS", "BUSY_ANSWER", "PUBLIC_URL"):
        assert variable in text


async def test_a_broker_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{free_port()}")
    (finding,) = await found("broker")
    assert finding.state == "fault"
    assert "NATS_URL" in finding.remedy


async def test_a_model_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-do-not-show")
    monkeypatch.setenv("OPENAI_REALTIME_URL", f"ws://127.0.0.1:{free_port()}/v1/realtime")
    (finding,) = await found("model")
    assert finding.state == "fault"
    assert "secret" not in finding.text + finding.remedy


async def test_a_wrong_key_is_a_fault_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from simulators.openai_realtime import RealtimeSimulator

    async with RealtimeSimulator(api_key="sk-right") as model:
        monkeypatch.setenv("OPENAI_REALTIME_URL", model.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key-0123456789")
        (wrong,) = await found("model")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
        (right,) = await found("model")
    assert wrong.state == "fault"
    assert "0123456789" not in wrong.text
    assert right.state == "ok"


async def test_a_number_of_twilio_that_is_mistyped_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "0" * 32)
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC123")
    findings = await found("twilio") + await found("settings")
    assert any("TWILIO_ACCOUNT_SID" in finding.text for finding in findings)
