"""The gateway's settings: closed by default, and every refusal names the remedy."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings
from shared.settings import faults, load

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def make(**fields: Any) -> GatewaySettings:
    return GatewaySettings(_env_file=None, **fields)


def fault(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        make(**fields)
    return "\n".join(faults(caught.value, GatewaySettings))


def test_defaults_are_for_one_machine() -> None:
    settings = make()
    assert settings.origin == "http://127.0.0.1:8080"
    assert settings.bare_stream_allowed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.internal"])
def test_beyond_loopback_an_auth_token_is_needed(host: str) -> None:
    public = "https://voice.example.com"
    text = fault(listen_host=host, public_url=public)
    assert "TWILIO_AUTH_TOKEN" in text
    assert "ALLOW_UNSIGNED=true" in text
    make(listen_host=host, public_url=public, twilio_auth_token="t")
    make(listen_host=host, public_url=public, allow_unsigned=True)


def test_beyond_loopback_the_public_url_is_needed() -> None:
    assert "PUBLIC_URL" in fault(listen_host="0.0.0.0", twilio_auth_token="t")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_loopback_needs_nothing(host: str) -> None:
    make(listen_host=host)


def test_bare_streams_are_off_once_there_is_an_auth_token() -> None:
    assert not make(twilio_auth_token="t").bare_stream_allowed
    assert make(twilio_auth_token="t", allow_bare_stream=True).bare_stream_allowed
    assert not make(allow_bare_stream=False).bare_stream_allowed


def test_pages_are_open_on_loopback_only() -> None:
    public = {"public_url": "https://voice.example.com", "twilio_auth_token": "t"}
    assert make().status_allowed
    assert not make(listen_host="0.0.0.0", **public).status_allowed
    assert make(listen_host="0.0.0.0", open_status=True, **public).status_allowed


def test_rest_needs_an_account_and_a_secret() -> None:
    account, key = "AC" + "a" * 32, "SK" + "b" * 32
    assert make().rest_login is None
    assert make(twilio_auth_token="t").rest_login is None
    both = make(twilio_account_sid=account, twilio_auth_token="t")
    assert both.rest_login == (account, "t")
    keyed = make(
        twilio_account_sid=account,
        twilio_auth_token="t",
        twilio_api_key_sid=key,
        twilio_api_key_secret="s",
    )
    assert keyed.rest_login == (key, "s")
    assert "TWILIO_API_KEY_SECRET" in fault(twilio_api_key_sid=key)
    assert "TWILIO_API_KEY_SID" in fault(twilio_api_key_secret="s")
    assert "https://api.twilio.com" in fault(twilio_api_url="api.twilio.com")
    assert "no path" in fault(twilio_api_url="https://api.twilio.com/2010-04-01")


def test_empty_variables_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PUBLIC_URL", "TWILIO_AUTH_TOKEN", "ALLOW_BARE_STREAM", "LISTEN_PORT"):
        monkeypatch.setenv(name, "")
    settings = make()
    assert settings.twilio_auth_token is None
    assert settings.listen_port == 8080
    assert settings.bare_stream_allowed


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://voice.example.com", "https://voice.example.com"),
        ("https://voice.example.com/", "https://voice.example.com"),
        ("HTTPS://Voice.Example.com:443", "https://voice.example.com"),
        ("http://gateway:8080", "http://gateway:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_public_url_is_an_origin(given: str, origin: str) -> None:
    assert make(public_url=given).origin == origin


@pytest.mark.parametrize(
    "url",
    [
        *("voice.example.com", "wss://voice.example.com", "https://", "https://a:b", "https://[::"),
        *("https://a.example/x", "https://a.example?x=1", "https://a.example#x"),
        "https://user:secret@a.example",
    ],
)
def test_anything_else_is_not(url: str) -> None:
    text = fault(public_url=url)
    assert text.startswith("PUBLIC_URL: ")
    assert "secret" not in text


def test_secrets_are_not_shown() -> None:
    settings = make(twilio_auth_token="hush-hush", stream_token_secret="very-hush-hush-hush")
    assert "hush" not in repr(settings)
    assert "short" not in fault(stream_token_secret="short")


def test_a_bad_start_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(GatewaySettings, _env_file=None, listen_host="0.0.0.0", public_url="x")
    assert caught.value.code == 2
    assert "PUBLIC_URL" in capsys.readouterr().err
