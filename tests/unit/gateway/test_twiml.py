"""TwiML: what we answer, read back as XML."""

import xml.etree.ElementTree as ET
from typing import Literal

import pytest

from services.gateway.twiml import Answers

pytestmark = pytest.mark.unit


def answers(
    busy_answer: Literal["retry", "say", "reject"] = "retry",
    *,
    origin: str = "https://voice.example.com",
    busy_text: str = "Busy.",
    voice: str | None = None,
    language: str | None = None,
) -> Answers:
    return Answers(origin, busy_answer, 3, busy_text, "Sorry.", voice, language)


def verbs(document: str) -> list[ET.Element]:
    root = ET.fromstring(document)
    assert root.tag == "Response"
    return list(root)


def names(document: str) -> list[str]:
    return [verb.tag for verb in verbs(document)]


def test_connect_opens_a_stream_and_names_what_comes_after() -> None:
    connect, hangup = verbs(answers().connect("tok_1"))
    assert (connect.tag, hangup.tag) == ("Connect", "Hangup")
    assert connect.attrib == {
        "action": "https://voice.example.com/twiml/after",
        "method": "POST",
    }
    (stream,) = connect
    # No track: anything else than the default is an error under <Connect>.
    assert (stream.tag, stream.attrib) == ("Stream", {"url": "wss://voice.example.com/call/tok_1"})


def test_a_later_leg_is_counted_in_the_url() -> None:
    connect, _ = verbs(answers().connect("t", leg=3))
    assert connect.attrib["action"] == "https://voice.example.com/twiml/after?leg=3"


def test_a_note_travels_with_the_stream() -> None:
    connect, _ = verbs(answers().connect("t", note="dial:no-answer"))
    (parameter,) = connect[0]
    assert parameter.attrib == {"name": "note", "value": "dial:no-answer"}


def test_a_number_is_dialled() -> None:
    (dial,) = verbs(answers().dial("+15550001111"))
    assert dial.attrib == {
        "action": "https://voice.example.com/twiml/dial-result",
        "method": "POST",
        "answerOnBridge": "true",
        "timeout": "25",
    }
    (number,) = dial
    assert (number.tag, number.text) == ("Number", "+15550001111")


@pytest.mark.parametrize(
    "uri",
    ["sip:desk@pbx.example.com", "sips:a.b@10.0.0.1:5061", "sip:+1555@h;transport=tls"],
)
def test_a_sip_address_is_dialled(uri: str) -> None:
    (dial,) = verbs(answers().dial(uri))
    (sip,) = dial
    assert (sip.tag, sip.text) == ("Sip", uri)


@pytest.mark.parametrize(
    "to",
    [
        *("", "911", "15550001111", "+0123", "+1555 0001", "+1555\n", "client:bob", "front desk"),
        *("sip:", "sip:@h", "sip:a@", "sip:a b@h", "sip:a@h/x", "https://a.example", "+1" * 20),
        *("sip:a@h?Subject=x", "sip:<a>@h", "SIP:a@h"),
    ],
)
def test_nobody_else_is_dialled(to: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        answers().dial(to)


def test_keys_are_pressed_before_a_new_stream() -> None:
    play, connect, hangup = verbs(answers().keys("1w2#", "tok_1"))
    assert (play.tag, play.attrib) == ("Play", {"digits": "1w2#"})
    assert connect.attrib["action"] == "https://voice.example.com/twiml/after"
    assert connect[0].attrib == {"url": "wss://voice.example.com/call/tok_1"}
    assert hangup.tag == "Hangup"


def test_without_tls_the_stream_is_ws() -> None:
    connect, _ = verbs(answers(origin="http://127.0.0.1:8080").connect("t"))
    assert connect[0].attrib["url"] == "ws://127.0.0.1:8080/call/t"


@pytest.mark.parametrize("attempt", [0, 1, 2])
def test_busy_asks_again(attempt: int) -> None:
    say, pause, redirect = verbs(answers().busy(attempt))
    assert (say.tag, say.text) == ("Say", "Busy.")
    assert pause.tag == "Pause"
    assert redirect.tag == "Redirect"
    assert redirect.text == f"https://voice.example.com/twiml?attempt={attempt + 1}"


@pytest.mark.parametrize("attempt", [3, 4, 999])
def test_busy_does_not_ask_for_ever(attempt: int) -> None:
    say, hangup = verbs(answers().busy(attempt))
    assert (say.text, hangup.tag) == ("Sorry.", "Hangup")


def test_busy_by_saying_so() -> None:
    assert names(answers("say").busy(0)) == ["Say", "Hangup"]


def test_busy_by_rejecting_must_be_the_first_verb() -> None:
    (reject,) = verbs(answers("reject").busy(0))
    assert (reject.tag, reject.attrib) == ("Reject", {"reason": "busy"})


def test_sorry_and_hang_up() -> None:
    assert names(answers().sorry()) == ["Say", "Hangup"]
    assert names(answers().hang_up()) == ["Hangup"]


def test_voice_language_and_escapes() -> None:
    document = answers("say", busy_text='<b> & "c"', voice="Polly.Amy", language="en-GB").busy(0)
    say = verbs(document)[0]
    assert say.text == '<b> & "c"'
    assert say.attrib == {"voice": "Polly.Amy", "language": "en-GB"}
    assert not verbs(answers("say").busy(0))[0].attrib
