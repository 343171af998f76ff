"""Writes docs/messages.md from the contract: `make docs`.  A test keeps the page true."""

import json
import sys
import types
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from shared import messages

HEAD: Final = """# Messages

Written by `make docs` from `shared/subjects.py` and `shared/messages.py`; a test keeps it true.

Every message that is not raw audio is one JSON object. Unknown fields are ignored on reading, so a
newer service may add some. Times are UTC in ISO 8601; `ms` is the call's own clock, in milliseconds
since it was offered. **Fields marked private hold what a caller said, dialled or is called**: they
travel on the bus and into the story, never into a log line.

`C` is the call's id: Twilio's CallSid (`CA` + 32 hex digits), or `BR` + 32 hex digits for a call from
a browser. Anything else is refused before it becomes part of a subject.

## Subjects

| subject | from → to | what |
|---|---|---|
| `calls.offer` | gateway → one session worker (queue group `session`) | request: [take this call](#offer). No responders: no capacity |
| `call.C.cmd` | gateway, operators → the call's owner | request: [attach a leg](#attachleg), [hang up](#hangup) |
| `call.C.up.<leg>.audio` | gateway → owner | the caller's audio: raw bytes in the call's format, gapless |
| `call.C.up.<leg>.ctl` | gateway → owner | [started](#legstarted), [mark](#markreturned), [dtmf](#dtmfpressed), [stopped](#legstopped), [lost](#leglost), [updated](#phoneupdated) |
| `call.C.down.<epoch>.audio` | owner → gateway | the agent's audio, as above |
| `call.C.down.<epoch>.ctl` | owner → gateway | [mark](#mark), [clear](#clear), [hang_up](#hangupleg), [move](#move), [hold_on](#holdon), [hold_off](#holdoff), [transfer](#transferleg), [digits](#senddigits) |
| `call.C.hold.<n>.audio` | holdmusic → gateway | paced music for the n-th hold, played only while it is on |
| `call.C.hold.<n>.stop` | owner → the instance that plays | [stop](#stopmusic) |
| `holdmusic.play`, `holdmusic.status`, `holdmusic.files` | owner, gateway → one instance (queue group `holdmusic`) | request: [play](#playmusic), [status](#musicstatus), [files](#musicfiles) |
| `tool.<name>` | owner → a tool service | request: [a function call](#toolrequest); found by `$SRV.INFO` |
| `call.C.event.<name>` | owner → JetStream `EVENTS`, observers | [the call's story](#the-story) |
| `logs.list`, `logs.call`, `logs.export` | observers → one instance (queue group `logs`) | request: [list calls](#listcalls), [one call's record](#getcall), [the same as a file](#exportcall) |
| `logs.delivery` | JetStream → the logs service | what its durable consumer `logs` of `EVENTS` delivers |
| `session.<worker>.beat` | session worker → observers | [a beat](#beat), every 500 ms |
| `log.<service>.<level>` | all → observers | [a log line](#logline) |

Legs count the phone sockets of a call, epochs its owners: a late message from a dead owner goes to a
subject nobody listens to. Audio is `pcmu` (G.711 mu-law, 8000 Hz, 8 bytes a ms; silence is `0xFF`)
or `pcm24k` (16-bit little-endian, 24000 Hz, 48 bytes a ms), mono. Position in bytes is time.

Key-value buckets: `agents` ([settings](#agentsettings) by agent id), `calls`
([record](#callrecord) by call id, written by compare-and-set), `stream_tokens` (used-up tokens), `records` (the logs service's own: ask
it by `logs.call`).
Stream: `EVENTS`, all of `call.*.event.>`.

To watch a call as it happens:

```sh
nats sub 'call.*.event.>'
```

To watch it from its beginning, without a gap or a repetition between what was and what comes, use
`shared/feed.py` (`switchboard logs --follow --call ID` does): it reads `EVENTS` by a consumer of its
own, so it is no request to any service.
"""

SECTIONS: Final[tuple[tuple[str, str, tuple[type[BaseModel], ...]], ...]] = (
    (
        "Offering a call",
        "",
        (messages.Offer, messages.OfferTaken, messages.OfferRefused),
    ),
    (
        "Commands to a call's owner",
        "Told apart by `do`; answers by `answer`.",
        (
            messages.AttachLeg,
            messages.HangUp,
            messages.LegAttached,
            messages.Done,
            messages.Refused,
        ),
    ),
    (
        "From the phone",
        "On `call.C.up.<leg>.ctl`, told apart by `type`.",
        (
            messages.LegStarted,
            messages.MarkReturned,
            messages.DtmfPressed,
            messages.LegStopped,
            messages.LegLost,
            messages.PhoneUpdated,
        ),
    ),
    (
        "To the phone",
        "On `call.C.down.<epoch>.ctl`, told apart by `type`.",
        (
            messages.Mark,
            messages.Clear,
            messages.HangUpLeg,
            messages.Move,
            messages.HoldOn,
            messages.HoldOff,
            messages.TransferLeg,
            messages.SendDigits,
        ),
    ),
    (
        "Tools",
        "See [tools.md](tools.md).",
        (messages.ToolRequest, messages.ToolContext, messages.ToolInfo),
    ),
    (
        "Hold music",
        "",
        (
            messages.PlayMusic,
            messages.MusicStarted,
            messages.MusicRefused,
            messages.StopMusic,
            messages.Ask,
            messages.MusicStatus,
            messages.StoreState,
            messages.MusicFiles,
            messages.MusicFile,
        ),
    ),
    (
        "The story",
        "One line each on `call.C.event.<name>`, kept by the stream `EVENTS`. All have `call`, "
        "`epoch`, `at` and `ms`.",
        (*messages.EVENTS, messages.Tokens),
    ),
    (
        "Settings and records",
        "Values in the key-value buckets.",
        (messages.AgentSettings, messages.TurnDetection, messages.CallRecord),
    ),
    (
        "Calls that were, and are",
        "Requests to the logs service, and their answers, told apart by `answer`.",
        (
            messages.ListCalls,
            messages.GetCall,
            messages.ExportCall,
            messages.CallPage,
            messages.CallTold,
            messages.CallExported,
            messages.LogsRefused,
            messages.CallSummary,
            messages.CallStory,
            messages.SpokenLine,
            messages.ToolUse,
            messages.HoldSpan,
            messages.Interruption,
            messages.LegSpan,
            messages.OwnerSpan,
            messages.ModelDial,
            messages.ModelTrouble,
            messages.CallMove,
            messages.Latencies,
            messages.UsageShare,
            messages.OtherLine,
        ),
    ),
    ("Beats and logs", "", (messages.Beat, messages.LogLine)),
)


def page() -> str:
    """The whole of docs/messages.md."""
    parts = [HEAD]
    for title, text, models in SECTIONS:
        parts.append(f"\n## {title}\n")
        if text:
            parts.append(f"\n{text}\n")
        parts += [_model(model) for model in models]
    return "".join(parts)


def _model(model: type[BaseModel]) -> str:
    doc = " ".join((model.__doc__ or "").split())
    name = getattr(model, "NAME", "")
    about = f"Event `{name}`. " if name else ""
    hidden = set(messages.Event.model_fields) if issubclass(model, messages.Event) else set()
    rows = [_row(field, info) for field, info in model.model_fields.items() if field not in hidden]
    table = "\n| field | type | default | notes |\n|---|---|---|---|\n" + "".join(rows)
    return (
        f"\n### {model.__name__}\n\n{about}{doc}\n"
        + (table if rows else "")
        + f"\n```json\n{_example(model)}\n```\n"
    )


def _row(name: str, info: FieldInfo) -> str:
    default = "required" if info.is_required() else f"`{_json(info.get_default())}`"
    private = isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("private")
    notes = "; ".join(
        part for part in ("**private**" if private else "", info.description or "") if part
    )
    return f"| `{name}` | {_type(info.annotation)} | {default} | {notes} |\n"


def _type(annotation: Any) -> str:
    """A type as a reader of JSON would say it."""
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is Union:
        return " or ".join(_type(part) for part in get_args(annotation))
    if annotation is type(None):
        return "null"
    choices = get_args(annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    name = getattr(annotation, "__name__", str(annotation))
    if name == "list" and choices and choices[0] is not str:
        return f"list of {_type(choices[0])}"
    if name in ("list", "dict"):
        return "list of text" if name == "list" else "object"
    plain = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{name}](#{name.lower()})"
    return plain.get(name, "time" if "datetime" in name.lower() else name)


def _json(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "{…}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _example(model: type[BaseModel]) -> str:
    extra = model.model_config.get("json_schema_extra")
    assert isinstance(extra, dict), "every message has an example"
    examples = extra["examples"]
    assert isinstance(examples, list)
    return json.dumps(examples[0], ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(page())
