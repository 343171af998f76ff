"""The service's settings: what is refused, and that secrets stay secret."""

import pytest
from pydantic import ValidationError

from services.holdmusic.settings import HoldMusicSettings
from shared.settings import faults
from tests.unit.holdmusic.conftest import SettingsOf

pytestmark = pytest.mark.unit


def test_nothing_set_is_fine(settings_of: SettingsOf) -> None:
    settings = settings_of()
    assert settings.stores == []
    assert settings.s3_bucket == "hold-music"


def test_stores_are_asked_in_order(settings_of: SettingsOf) -> None:
    settings = settings_of(
        s3_url="http://127.0.0.1:8333/",
        s3_fallback_url="https://abc.r2.cloudflarestorage.com",
        s3_fallback_access_key="a",
        s3_fallback_secret_key="hush",
        s3_fallback_region="auto",
        s3_fallback_bucket="music",
    )
    first, second = settings.stores
    assert (first.name, first.url, first.access_key) == ("primary", "http://127.0.0.1:8333", None)
    assert (second.name, second.bucket, second.region) == ("fallback", "music", "auto")
    assert "hush" not in repr(settings)
    assert "hush" not in repr(second)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8333",
        "ftp://host",
        "http://",
        "http://key:secret@host",
        "http://host/bucket",
        "http://host:port",
        "http://host?x=1",
    ],
)
def test_a_url_is_an_origin_without_secrets(settings_of: SettingsOf, url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings_of(s3_url=url)
    (line,) = faults(caught.value, HoldMusicSettings)
    assert line.startswith("S3_URL: ")
    assert "secret@" not in line


def test_half_a_pair_of_keys_is_refused(settings_of: SettingsOf) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        settings_of(s3_url="http://host", s3_access_key="a")


@pytest.mark.parametrize("name", ["UPPER", "a", "under_score", "-dash"])
def test_a_buckets_name_is_checked(settings_of: SettingsOf, name: str) -> None:
    with pytest.raises(ValidationError):
        settings_of(s3_bucket=name)
