import json
from pathlib import Path
from typing import Any

import pytest

from simulators.twilio_messages import Clear, InvalidMessage, Mark, Media, Sender, parse

pytestmark = pytest.mark.unit

_SID = "MZ5f3a9c0d7e1b42688a04c6d2f917be30"
_OUTBOUND = Path("tests/fixtures/twilio-outbound-messages.jsonl").read_text().splitlines()
_INBOUND = Path("tests/fixtures/twilio-inbound-messages.jsonl").read_text().splitlines()
_MEDIA = {"event": "media", "streamSid": _SID, "media": {"payload": "/////w=="}}
_MARK = {"event": "mark", "streamSid": _SID, "mark": {"name": "m"}}


@pytest.mark.parametrize("line", _OUTBOUND)
def test_documented_messages_are_accepted(line: str) -> None:
    wanted = {"media": Media, "mark": Mark, "clear": Clear}[json.loads(line)["event"]]
    assert isinstance(parse(line, _SID), wanted)


@pytest.mark.parametrize("line", _OUTBOUND)
def test_documented_messages_are_refused_with_an_extra_or_a_missing_field(line: str) -> None:
    message = json.loads(line)
    mutants = [message | {"sequenceNumber": "1"}, message | {"streamSid": "MZ" + "0" * 32}]
    mutants += [{k: v for k, v in message.items() if k != name} for name in message]
    event = message["event"]
    if event != "clear":
        mutants += [
            message | {event: message[event] | {"track": "outbound"}},
            message | {event: {}},
        ]
    for mutant in mutants:
        with pytest.raises(InvalidMessage):
            parse(json.dumps(mutant), _SID)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "unknown event"),
        (_MEDIA | {"event": "stop"}, "unknown event 'stop'; allowed: media, mark, clear"),
        (_MEDIA | {"event": ["media"]}, "unknown event"),
        (_MEDIA | {"media": "/////w=="}, "media: media is not an object"),
        (_MEDIA | {"media": {"payload": 7}}, "media: media.payload is not a string"),
        (_MEDIA | {"media": {"payload": "no base64!"}}, "media: media.payload is not base64"),
        (_MEDIA | {"media": {"payload": "/////w"}}, "media: media.payload is not base64"),
        (_MEDIA | {"media": {"payload": "ÿ"}}, "media: media.payload is not base64"),
        (_MARK | {"mark": {"name": None}}, "mark: mark.name is not a string"),
        (_MARK | {"mark": {"name": "m", "ms": 1}}, "mark: extra field ms"),
        ({"event": "mark", "streamSid": _SID}, "mark: missing field mark"),
        (_MARK | {"streamSid": None}, "mark: streamSid None is not this stream"),
    ],
)
def test_invalid_message_says_what_is_wrong(message: str | dict[str, Any], why: str) -> None:
    text = message if isinstance(message, str) else json.dumps(message)
    with pytest.raises(InvalidMessage) as caught:
        parse(text, _SID)
    assert str(caught.value).startswith(why)


def test_sent_messages_equal_the_captured_call() -> None:
    """The call of the fixture, worded again: same fields, same types, same numbers."""
    captured = [json.loads(line) for line in _INBOUND]
    start = captured[1]["start"]
    sender = Sender(
        account_sid=start["accountSid"],
        call_sid=start["callSid"],
        stream_sid=start["streamSid"],
        parameters=start["customParameters"],
    )
    for message in captured:
        match message["event"]:
            case "connected":
                text = sender.connected()
            case "start":
                text = sender.start()
            case "media":
                audio = parse(
                    json.dumps(_MEDIA | {"media": {"payload": message["media"]["payload"]}}), _SID
                )
                assert isinstance(audio, Media)
                text = sender.media(audio.audio, int(message["media"]["timestamp"]))
            case "dtmf":
                text = sender.dtmf(message["dtmf"]["digit"])
            case "mark":
                text = sender.mark(message["mark"]["name"])
            case _:
                text = sender.stop()
        assert json.loads(text) == message
