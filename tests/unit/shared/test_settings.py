"""Settings: all faults at once, each with its variable and its remedy, and never a secret."""

import pathlib

import pytest
from pydantic import Field, SecretStr

from services.session.settings import SessionSettings
from shared.settings import ServiceSettings, load

pytestmark = pytest.mark.unit


class Example(ServiceSettings):
    key: SecretStr | None = Field(default=None, min_length=20, description="a long key")
    size: int = Field(default=1, ge=1, description="how big, at least 1")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No variables but the test's own, and no .env."""
    for name in {*Example.model_fields, *SessionSettings.model_fields}:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def refusal(kind: type[ServiceSettings], capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as caught:
        load(kind)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_the_defaults_work_on_one_machine() -> None:
    settings = load(Example)
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert settings.health_host == "127.0.0.1"
    assert not settings.log_private


def test_all_faults_are_told_at_once_each_with_its_variable_and_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIZE", "0")
    monkeypatch.setenv("NATS_URL", "http://broker")
    monkeypatch.setenv("DRAIN_S", "soon")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    lines = refusal(Example, capsys)
    faults = {line.split(":")[0].strip(): line for line in lines[1:-1]}
    assert set(faults) == {"SIZE", "NATS_URL", "DRAIN_S", "LOG_LEVEL"}
    assert "how big, at least 1" in faults["SIZE"]
    assert all(" -- " in line for line in faults.values())


def test_a_wrong_secret_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEY", "hunter2")
    monkeypatch.setenv("NATS_URL", "broker:hunter2")
    lines = refusal(Example, capsys)
    assert len(lines) == 4
    assert "hunter2" not in "\n".join(lines)


def test_a_secret_is_not_in_the_settings_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load(Example))


def test_a_dot_env_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / ".env").write_text("SIZE=5\nDRAIN_S=7\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("SIZE", "6")
    settings = load(Example)
    assert (settings.size, settings.drain_s) == (6, 7)


def test_the_session_service_tells_a_missing_key_together_with_its_other_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_CALLS", "0")
    monkeypatch.setenv("PRICES_FILE", "/nowhere/prices.json")
    monkeypatch.setenv("OPENAI_REALTIME_URL", "https://api.openai.com")
    text = "\n".join(refusal(SessionSettings, capsys))
    for name in ("OPENAI_API_KEY", "MAX_CALLS", "PRICES_FILE", "OPENAI_REALTIME_URL"):
        assert f"  {name}: " in text
    assert "platform.openai.com" in text
    assert "/nowhere/prices.json" in text


@pytest.mark.parametrize("key", ["", None])
def test_the_session_service_needs_a_key(
    key: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    assert "OPENAI_API_KEY: is not set" in "\n".join(refusal(SessionSettings, capsys))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something")
    assert load(SessionSettings).max_calls == 50
