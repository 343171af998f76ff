"""Twilio's Media Streams messages: the recorded ones, read and written by our own module."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from services.gateway import twilio
from shared.messages import DtmfPressed, MarkReturned

pytestmark = pytest.mark.contract

FIXTURES = Path(__file__).parents[1] / "fixtures"
INBOUND = (FIXTURES / "twilio-inbound-messages.jsonl").read_bytes().splitlines()
OUTBOUND = (FIXTURES / "twilio-outbound-messages.jsonl").read_bytes().splitlines()
STREAM = "MZ5f3a9c0d7e1b42688a04c6d2f917be30"
CALL = "CA2b7d41e09c5f4a3d8e6610f2ab93c7d5"


def shuffled(value: Any, order: random.Random) -> Any:
    """The same object with its keys in another order, all the way down."""
    if not isinstance(value, dict):
        return value
    names = list(value)
    order.shuffle(names)
    return {name: shuffled(value[name], order) for name in names}


def test_every_inbound_message_is_understood() -> None:
    kinds = [type(twilio.parse(line)) for line in INBOUND]
    assert kinds[:2] == [twilio.Connected, twilio.Start]
    assert kinds[-1] is twilio.Stop
    assert kinds.count(twilio.Media) == 13
    assert kinds.count(MarkReturned) == 3
    assert kinds.count(DtmfPressed) == 2


def test_start_says_which_call_and_stream() -> None:
    start = twilio.parse(INBOUND[1])
    assert isinstance(start, twilio.Start)
    assert (start.stream, start.call) == (STREAM, CALL)
    assert start.account == "AC9e01d4b7a2c84f56b3d7801ce4f2a968"
    assert start.mulaw_8k


@pytest.mark.parametrize("seed", range(5))
def test_key_order_does_not_matter(seed: int) -> None:
    order = random.Random(seed)
    for line in INBOUND:
        other = json.dumps(shuffled(json.loads(line), order)).encode()
        assert twilio.parse(other) == twilio.parse(line)


def test_the_fast_path_takes_every_recorded_media_message() -> None:
    wire = twilio.StreamWire(STREAM)
    for line in INBOUND:
        message = twilio.parse(line)
        fast = wire.fast_media(line)
        if isinstance(message, twilio.Media):
            assert fast == (message.timestamp_ms, message.audio)
            assert len(message.audio) == 160
        else:
            assert fast is None


def test_what_we_send_is_byte_for_byte_what_twilio_documents() -> None:
    wire = twilio.StreamWire(STREAM)
    for line in OUTBOUND:
        match json.loads(line):
            case {"event": "media", "media": {"payload": payload}}:
                assert wire.media(base64.b64decode(payload)) == line
            case {"event": "mark", "mark": {"name": name}}:
                assert wire.mark(name) == line
            case {"event": "clear"}:
                assert wire.clear == line
            case other:
                pytest.fail(f"an event nobody sends: {other}")


def test_the_exact_fields_and_no_more() -> None:
    """Twilio: a missing or an extra field is an error 31951."""
    wire = twilio.StreamWire(STREAM)
    assert json.loads(wire.media(b"\xff" * 160)).keys() == {"event", "streamSid", "media"}
    assert json.loads(wire.media(b"")) == {
        "event": "media",
        "streamSid": STREAM,
        "media": {"payload": ""},
    }
    assert json.loads(wire.mark('a"b\\é')) == {
        "event": "mark",
        "streamSid": STREAM,
        "mark": {"name": 'a"b\\é'},
    }
    assert json.loads(wire.clear) == {"event": "clear", "streamSid": STREAM}
