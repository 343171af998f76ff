"""The tools service's settings: usable defaults, and every refusal names the remedy."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.tools.settings import ToolsSettings
from shared.settings import faults

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ToolsSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def make(**fields: Any) -> ToolsSettings:
    return ToolsSettings(_env_file=None, **fields)


def test_defaults_need_no_account_and_no_server() -> None:
    settings = make()
    assert settings.open_meteo_url == "https://api.open-meteo.com"
    assert settings.open_meteo_geocoding_url == "https://geocoding-api.open-meteo.com"
    assert settings.database_url == "sqlite+aiosqlite:///.switchboard/prescriptions.db"
    assert settings.seed_prescriptions
    assert settings.weather_units == "metric"


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("open_meteo_url", "api.open-meteo.com", "https://api.open-meteo.com"),
        ("open_meteo_url", "https://host/?key=1", "https://api.open-meteo.com"),
        ("open_meteo_geocoding_url", "ftp://host", "https://geocoding-api.open-meteo.com"),
        ("weather_units", "kelvin", "imperial"),
        ("weather_timeout_s", 0, "above 0 to 30"),
        ("weather_cache_s", -1, "0 to 86400"),
        ("database_url", "mysql://user:s3cret@host/name", "postgresql://"),
        ("tools_max_running", 0, "1 to 10000"),
        ("verification_tries", 0, "1 to 20"),
    ],
)
def test_a_wrong_value_has_its_remedy(field: str, value: object, remedy: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make(**{field: value})
    (line,) = faults(caught.value, ToolsSettings)
    assert line.startswith(f"{field.upper()}: ")
    assert remedy in line
    assert "s3cret" not in line


def test_a_slash_at_the_end_does_no_harm() -> None:
    assert make(open_meteo_url="http://host/path/").open_meteo_url == "http://host/path"


def test_the_password_is_not_shown() -> None:
    assert "s3cret" not in repr(make(database_url="postgres://user:s3cret@host/name"))
