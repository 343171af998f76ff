"""Twilio's signature: every recorded vector, through our own module."""

import json
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from services.gateway.signature import Signatures, upgrade_urls

pytestmark = pytest.mark.contract

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "twilio-signature-vectors.json").read_text()
)


def by_id(name: str) -> dict[str, Any]:
    return next(vector for vector in VECTORS if vector["id"] == name)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_vector(vector: dict[str, Any]) -> None:
    params = vector["body"] if "body" in vector else MultiDict(vector["params"])
    valid = Signatures(vector["token"]).webhook(
        vector["url"], params, vector["signature"], algorithm=vector.get("algorithm")
    )
    assert valid is vector["valid"]


def test_sha256_is_not_taken_unless_asked_for() -> None:
    vector = by_id("V10")
    assert not Signatures(vector["token"]).webhook(
        vector["url"], MultiDict(vector["params"]), vector["signature"]
    )


@pytest.mark.parametrize(
    ("name", "origin", "path", "valid"),
    [
        ("V4", "wss://voice.example.com", "/twilio/media", True),
        ("V4", "wss://voice.example.com", "/twilio/media/", True),
        ("V5", "wss://voice.example.com", "/twilio/media", True),
        ("V5", "wss://voice.example.com", "/twilio/media/", True),
        ("V5-without-slash", "wss://voice.example.com", "/twilio/media", True),
        ("V6", "wss://voice.example.com", "/twilio/media", False),
        ("V4", "wss://voice.example.com", "/twilio/other", False),
        ("V4", "wss://other.example.com", "/twilio/media", False),
        ("V4", "https://voice.example.com", "/twilio/media", False),
    ],
)
def test_upgrade_with_and_without_a_slash(name: str, origin: str, path: str, valid: bool) -> None:
    vector = by_id(name)
    assert Signatures(vector["token"]).upgrade(origin, path, vector["signature"]) is valid


def test_upgrade_candidates_include_the_default_port_of_wss() -> None:
    assert upgrade_urls("wss://a.example", "/call/t") == [
        "wss://a.example/call/t",
        "wss://a.example/call/t/",
        "wss://a.example:443/call/t",
        "wss://a.example:443/call/t/",
    ]
    assert upgrade_urls("wss://a.example:8443", "/call/t/")[0] == "wss://a.example:8443/call/t/"


def test_repeated_fields_count() -> None:
    signatures = Signatures("12345")
    both = MultiDict([("To", "a"), ("To", "b")])
    signature = signatures._validator.compute_signature("https://a.example/x", both)
    assert signatures.webhook("https://a.example/x", both, signature)
    assert not signatures.webhook("https://a.example/x", MultiDict([("To", "a")]), signature)


@pytest.mark.parametrize(
    "url", ["https://a.example/\udcff", "https://a.example:8080http://[::1/x", "https://a.example/"]
)
@pytest.mark.parametrize("signature", ["", "x", "\udcff" * 28, "é" * 28, "x" * 10_000])
def test_nonsense_is_only_wrong(url: str, signature: str) -> None:
    assert not Signatures("12345").webhook(url, {}, signature)


def test_an_unsigned_body_is_refused() -> None:
    assert not Signatures("12345").webhook("https://a.example/", '{"a":1}', "x" * 28)


def test_an_empty_auth_token_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Signatures("")
