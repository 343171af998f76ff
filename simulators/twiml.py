"""Reads TwiML as Twilio reads it: a document into verbs, with the warnings Twilio would log.

Pure. Twilio: the root is `<Response>`, names of elements and attributes are case-sensitive; a slip
against the schema is warning 12200 and the document still runs, unparsable XML is error 12100.
"""

import ipaddress
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit, urlunsplit

__all__ = [
    "Connect",
    "Dial",
    "Document",
    "Hangup",
    "NotSimulated",
    "Pause",
    "Play",
    "Redirect",
    "Reject",
    "Say",
    "Stream",
    "TwimlError",
    "Verb",
    "parse",
    "stream_url",
]

_PARAMETER_CHARS = 500
"""Twilio: name and value of one <Parameter> are together under 500 characters."""

_FORBIDDEN = "<!DOCTYPE"
"""No TwiML needs one, and entities declared in it can make a small document enormous."""


class TwimlError(ValueError):
    """The document, or a stream in it, cannot be carried out; `code` is Twilio's error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Say:
    """Speak to the caller; `loop` 0 is endless."""

    text: str
    voice: str = ""
    loop: int = 1


@dataclass(frozen=True, slots=True)
class Play:
    """Play a file, or send `digits` as touch tones."""

    url: str
    digits: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait in silence."""

    length_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Redirect:
    """Go on with the document at another URL."""

    url: str
    method: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the call."""

    reason: str = "rejected"


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect the caller with somebody else; what became of it is told to `action`, if any."""

    target: str
    action: str = ""
    method: str = "POST"
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Stream:
    """A bidirectional media stream, as the document wrote it."""

    url: str
    name: str = ""
    track: str = ""
    status_callback: str = ""
    status_callback_method: str = "POST"
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connect:
    """Hand the call to a stream; what comes next is asked of `action`, if there is one."""

    stream: Stream | None
    action: str = ""
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class NotSimulated:
    """A verb Twilio knows and this simulator does not play."""

    name: str


Verb = Say | Play | Pause | Redirect | Reject | Hangup | Dial | Connect | NotSimulated


@dataclass(frozen=True, slots=True)
class Document:
    """The verbs of one answer, in order."""

    verbs: tuple[Verb, ...]
    warnings: tuple[str, ...]
    """Texts of Twilio's warning 12200."""


_ATTRIBUTES: dict[str, set[str]] = {
    "Response": set(),
    "Say": {"voice", "language", "loop"},
    "Play": {"loop", "digits"},
    "Pause": {"length"},
    "Redirect": {"method"},
    "Reject": {"reason"},
    "Hangup": set(),
    "Connect": {"action", "method"},
    "Stream": {
        *("url", "name", "track", "statusCallback", "statusCallbackMethod"),
        *("connectorName", "audioFormat", "sampleRate"),
    },
    "Parameter": {"name", "value"},
    "Dial": {
        *("action", "method", "timeout", "hangupOnStar", "timeLimit", "callerId", "record", "trim"),
        *("recordingStatusCallback", "recordingStatusCallbackMethod"),
        *("recordingStatusCallbackEvent", "recordingTrack", "answerOnBridge", "ringTone"),
        *("sequential", "referUrl", "referMethod", "events"),
    },
}
"""What is simulated, with the attributes that Twilio knows."""

_OTHER_VERBS = {
    *("Enqueue", "Gather", "Leave", "Pay", "Prompt", "Queue", "Record", "Refer", "Sms", "Start"),
    *("Stop", "Transcription"),
}

_CHILDREN = {
    "Response": {*_ATTRIBUTES, *_OTHER_VERBS} - {"Response", "Stream", "Parameter"},
    "Connect": {"Stream"},
    "Stream": {"Parameter"},
}
"""Where children are checked; <Say> may hold SSML and <Dial> its nouns, which nobody plays here."""


def parse(body: str, base_url: str) -> Document:
    """Return the verbs of a document fetched from `base_url`, to which its URLs are relative."""
    if _FORBIDDEN in body:
        raise TwimlError(12100, "a document type declaration is not allowed in TwiML")
    try:
        root = ET.fromstring(body)  # noqa: S314 - no document type, so no entities
    except ET.ParseError as exc:
        raise TwimlError(12100, f"not well-formed XML: {exc}") from None
    if root.tag != "Response":
        raise TwimlError(12100, f"the root element is <{root.tag}>, not <Response>")
    warnings: list[str] = []
    _check(root, warnings)
    verbs = (_verb(element, base_url, warnings) for element in root)
    return Document(tuple(verb for verb in verbs if verb is not None), tuple(warnings))


def stream_url(url: str) -> tuple[str, str]:
    """Return the URL that Twilio would open for a stream, and a warning or ''.

    Twilio: `wss` only (else error 31922), and a query string is dropped. As an exception `ws` is
    allowed to this machine, where there is no certificate to be had.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises when it is not a number
    except ValueError as exc:
        raise TwimlError(31923, f"<Stream url={url!r}>: {exc}") from None
    if not host:
        raise TwimlError(31923, f"<Stream url={url!r}> names no host")
    if parts.scheme != "wss" and not (parts.scheme == "ws" and _is_loopback(host)):
        raise TwimlError(31922, f"<Stream url={url!r}>: the scheme must be wss")
    warning = f"<Stream url={url!r}>: the query string was dropped" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", "", "")), warning


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check(element: ET.Element, warnings: list[str]) -> None:
    known = _ATTRIBUTES.get(element.tag)
    if known is None:
        return
    for name in sorted(set(element.attrib) - known):
        warnings.append(f"attribute {name!r} is not allowed in <{element.tag}>")
    children = _CHILDREN.get(element.tag)
    for child in element:
        if children is not None and child.tag not in children:
            warnings.append(f"<{child.tag}> is not allowed in <{element.tag}>")
        else:
            _check(child, warnings)


def _verb(element: ET.Element, base_url: str, warnings: list[str]) -> Verb | None:
    text = "".join(element.itertext()).strip()
    match element.tag:
        case "Say":
            loop = int(_number(element, "loop", 1, warnings))
            return Say(text, element.get("voice", ""), loop)
        case "Play":
            return Play(urljoin(base_url, text) if text else "", element.get("digits", ""))
        case "Pause":
            return Pause(_number(element, "length", 1, warnings))
        case "Redirect":
            return Redirect(urljoin(base_url, text), _method(element, "method", warnings))
        case "Reject":
            return Reject(_choice(element, "reason", ("rejected", "busy"), warnings))
        case "Hangup":
            return Hangup()
        case "Dial":
            return _dial(element, text, base_url, warnings)
        case "Connect":
            return _connect(element, base_url, warnings)
        case tag:
            return NotSimulated(tag) if tag in _OTHER_VERBS else None


def _dial(element: ET.Element, target: str, base_url: str, warnings: list[str]) -> Dial:
    action = element.get("action")
    return Dial(
        target,
        action=urljoin(base_url, action) if action else "",
        method=_method(element, "method", warnings),
        timeout_s=_number(element, "timeout", 30, warnings),
    )


def _connect(element: ET.Element, base_url: str, warnings: list[str]) -> Connect:
    action = element.get("action")
    noun = element.find("Stream")
    if noun is None:
        warnings.append("<Connect> holds no <Stream>")
    return Connect(
        stream=None if noun is None else _stream(noun, base_url, warnings),
        action=urljoin(base_url, action) if action else "",
        method=_method(element, "method", warnings),
    )


def _stream(element: ET.Element, base_url: str, warnings: list[str]) -> Stream:
    url = element.get("url", "")
    if url and not urlsplit(url).scheme:
        # Twilio: a relative URL is allowed; it has the document's host, and a WebSocket's scheme.
        url = "ws" + urljoin(base_url, url).removeprefix("http")
    parameters: dict[str, str] = {}
    for parameter in element.iterfind("Parameter"):
        name, value = parameter.get("name", ""), parameter.get("value", "")
        if not name or len(name) + len(value) >= _PARAMETER_CHARS:
            warnings.append(
                f"<Parameter name={name!r:.40}> was dropped: it needs a name, and name and value "
                f"under {_PARAMETER_CHARS} characters together"
            )
        else:
            parameters[name] = value
    return Stream(
        url=url,
        name=element.get("name", ""),
        track=element.get("track", ""),
        status_callback=element.get("statusCallback", ""),
        status_callback_method=_method(element, "statusCallbackMethod", warnings),
        parameters=parameters,
    )


def _method(element: ET.Element, name: str, warnings: list[str]) -> str:
    return _choice(element, name, ("POST", "GET"), warnings)


def _choice(element: ET.Element, name: str, allowed: tuple[str, ...], warnings: list[str]) -> str:
    value = element.get(name, allowed[0])
    if value in allowed:
        return value
    warnings.append(f"{name}={value!r} in <{element.tag}> is not one of {', '.join(allowed)}")
    return allowed[0]


def _number(element: ET.Element, name: str, default: float, warnings: list[str]) -> float:
    value = element.get(name)
    if value is None:
        return default
    if value.isascii() and value.isdigit():
        return float(value)
    warnings.append(f"{name}={value!r} in <{element.tag}> is not a whole number")
    return default
