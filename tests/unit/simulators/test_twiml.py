import pytest

from simulators.twiml import (
    Connect,
    Dial,
    Document,
    Hangup,
    NotSimulated,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    Stream,
    TwimlError,
    parse,
    stream_url,
)

pytestmark = pytest.mark.unit

_BASE = "https://voice.example.com/twiml?x=1"


def _parsed(body: str) -> Document:
    return parse(f"<?xml version='1.0' encoding='UTF-8'?><Response>{body}</Response>", _BASE)


def test_connect_with_a_stream() -> None:
    document = _parsed(
        '<Connect action="/twiml/after?call=1&amp;n=2" method="GET">'
        '<Stream url="wss://voice.example.com/call/tok" name="main" '
        'statusCallback="https://voice.example.com/status">'
        '<Parameter name="call" value="c1"/><Parameter name="empty"/></Stream></Connect><Hangup/>'
    )
    stream = Stream(
        url="wss://voice.example.com/call/tok",
        name="main",
        status_callback="https://voice.example.com/status",
        parameters={"call": "c1", "empty": ""},
    )
    action = "https://voice.example.com/twiml/after?call=1&n=2"
    assert document.verbs == (Connect(stream, action, "GET"), Hangup())
    assert document.warnings == ()


def test_other_verbs() -> None:
    document = _parsed(
        '<Say voice="alice" loop="2">Hello <emphasis>you</emphasis></Say>'
        '<Pause length="3"/><Pause/>'
        '<Play digits="1w2"/><Redirect method="GET">../next</Redirect><Reject reason="busy"/>'
        '<Dial timeout="5"><Number>+15550001</Number></Dial><Gather input="dtmf"/>'
    )
    assert document.verbs == (
        Say("Hello you", "alice", 2),
        Pause(3),
        Pause(1),
        Play("", "1w2"),
        Redirect("https://voice.example.com/next", "GET"),
        Reject("busy"),
        Dial("+15550001", timeout_s=5),
        NotSimulated("Gather"),
    )
    assert document.warnings == ()


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("<Speak>hello</Speak>", "<Speak> is not allowed in <Response>"),
        ("<hangup/>", "<hangup> is not allowed in <Response>"),
        ('<Hangup reason="x"/>', "attribute 'reason' is not allowed in <Hangup>"),
        ('<Stream url="wss://h/"/>', "<Stream> is not allowed in <Response>"),
        ("<Connect/>", "<Connect> holds no <Stream>"),
        ('<Pause length="long"/>', "length='long' in <Pause> is not a whole number"),
        ('<Reject reason="no"/>', "reason='no' in <Reject> is not one of rejected, busy"),
        (
            '<Connect><Stream URL="wss://h/"/></Connect>',
            "attribute 'URL' is not allowed in <Stream>",
        ),
    ],
)
def test_slips_are_warnings(body: str, warning: str) -> None:
    assert _parsed(body).warnings == (warning,)


def test_parameter_of_500_characters_is_dropped() -> None:
    parameter = f'<Parameter name="n" value="{"v" * 499}"/>'
    document = _parsed(f'<Connect><Stream url="wss://h/">{parameter}</Stream></Connect>')
    connect = document.verbs[0]
    assert isinstance(connect, Connect)
    assert connect.stream is not None
    assert connect.stream.parameters == {}
    assert "under 500 characters" in document.warnings[0]


@pytest.mark.parametrize(
    "body", ["", "hello", "<Response>", "<html/>", "<!DOCTYPE a []><Response/>", "<Response>&x;"]
)
def test_what_is_no_twiml_is_error_12100(body: str) -> None:
    with pytest.raises(TwimlError) as caught:
        parse(body, _BASE)
    assert caught.value.code == 12100


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("wss://voice.example.com/call/t", "wss://voice.example.com/call/t"),
        ("wss://voice.example.com", "wss://voice.example.com/"),
        ("ws://127.0.0.1:8080/call", "ws://127.0.0.1:8080/call"),
        ("ws://localhost:8080/call", "ws://localhost:8080/call"),
        ("ws://[::1]:8080/call", "ws://[::1]:8080/call"),
    ],
)
def test_stream_url_is_used_as_it_is(url: str, opened: str) -> None:
    assert stream_url(url) == (opened, "")


def test_query_string_of_a_stream_url_is_dropped() -> None:
    url, warning = stream_url("wss://voice.example.com/call?token=1")
    assert url == "wss://voice.example.com/call"
    assert "query string" in warning


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ws://voice.example.com/call", 31922),
        ("https://voice.example.com/call", 31922),
        ("wss://", 31923),
        ("", 31923),
        ("wss://h:port/", 31923),
        ("wss://[::1/", 31923),
    ],
)
def test_stream_url_that_cannot_be_opened(url: str, code: int) -> None:
    with pytest.raises(TwimlError) as caught:
        stream_url(url)
    assert caught.value.code == code


def test_relative_stream_url_has_the_documents_host() -> None:
    connect = _parsed('<Connect><Stream url="/call/t"/></Connect>').verbs[0]
    assert isinstance(connect, Connect)
    assert connect.stream is not None
    assert connect.stream.url == "wss://voice.example.com/call/t"
