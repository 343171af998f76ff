"""Stories of calls, written by hand: lines as the session tells them."""

import datetime
import json
from typing import Any

CALL = "CA0123456789abcdef0123456789abcdef"
BEGAN = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)

#: A line: its name and its payload.
Line = tuple[str, bytes]


def line(event: str, ms: int, /, *, call: str = CALL, epoch: int = 1, **fields: Any) -> Line:
    at = BEGAN + datetime.timedelta(milliseconds=ms)
    body = {"call": call, "epoch": epoch, "at": at.isoformat(), "ms": ms, **fields}
    return (event, json.dumps(body).encode())


def usage(ms: int, total: float, *, call: str = CALL, epoch: int = 1, **tokens: int) -> Line:
    return line(
        "usage_reported",
        ms,
        call=call,
        epoch=epoch,
        source="response",
        model="gpt-realtime-2.1",
        tokens=tokens,
        seconds=0,
        cost_usd=0.01,
        total_cost_usd=total,
    )


def offered(ms: int = 0, call: str = CALL, caller: str = "+15557778888", **more: Any) -> Line:
    fields = {
        "caller": caller,
        "dialled": "+15551230000",
        "direction": "inbound",
        "agent": "default",
        "worker": "w-7f3a",
        **more,
    }
    return line("offered", ms, call=call, **fields)


def ended(ms: int, call: str = CALL, **more: Any) -> Line:
    fields = {
        "reason": "caller_hung_up",
        "duration_ms": max(0, ms - 900),
        "tokens": {"audio_out": 120, "text_in": 300},
        "cost_usd": 0.03,
        **more,
    }
    return line("ended", ms, call=call, **fields)


def whole(call: str = CALL) -> list[Line]:
    """A question, a tool behind music, an interruption, a lost phone, a transfer that failed, a new
    owner, a failure, a goodbye."""

    def tell(event: str, ms: int, /, **fields: Any) -> Line:
        return line(event, ms, call=call, **fields)

    return [
        offered(call=call),
        tell("model_ready", 310, model="gpt-realtime-2.1", voice="marin", dial_ms=300, attempt=1),
        tell("started", 900, leg=1, gateway="gw-1"),
        tell("agent_started_speaking", 1500, item="item_1", after="greeting", latency_ms=600),
        tell("transcript", 1900, who="agent", text="Hello, this is Acme.", item="item_1"),
        usage(2000, 0.01, call=call, audio_out=40, text_in=100),
        tell("agent_finished_speaking", 3400, item="item_1", heard_ms=1900),
        tell("caller_started_speaking", 4000, item="item_2"),
        tell("caller_stopped_speaking", 5600, item="item_2"),
        tell("tool_called", 6100, call_id="call_1", name="get_weather", arguments='{"at": "Oslo"}'),
        tell("transcript", 6200, who="caller", text="How is the weather in Oslo?", item="item_2"),
        tell("hold_started", 7300, hold=1, track="bossa.mp3", source="store", fallback=None),
        tell(
            "tool_answered",
            9100,
            call_id="call_1",
            name="get_weather",
            output='{"temp": 7}',
            duration_ms=3000,
        ),
        tell("hold_ended", 9800, hold=1, reason="agent", duration_ms=2500),
        tell("agent_started_speaking", 9800, item="item_3", after="caller", latency_ms=4200),
        tell(
            "transcript", 10100, who="agent", text="Seven degrees and rain all day.", item="item_3"
        ),
        usage(10200, 0.02, call=call, audio_out=60, text_in=150),
        tell("caller_started_speaking", 11000, item="item_4"),
        tell(
            "interrupted", 11000, item="item_3", heard_ms=1200, sent_ms=2800, text="Seven degrees"
        ),
        tell("caller_stopped_speaking", 12000, item="item_4"),
        tell("transcript", 12500, who="caller", text="Somebody else, please.", item="item_4"),
        tell("agent_started_speaking", 12700, item="item_5", after="caller", latency_ms=700),
        tell("transcript", 12800, who="agent", text="One moment.", item="item_5"),
        tell("agent_finished_speaking", 13500, item="item_5", heard_ms=800),
        tell("transfer_started", 13600, to="front desk"),
        tell("leg_dropped", 13800, leg=1, reason="socket closed (1006)"),
        tell("leg_replaced", 25000, leg=2, gateway="gw-2"),
        tell("transfer_failed", 25000, to="front desk", code="no-answer"),
        tell("key_pressed", 26000, digit="5"),
        tell("model_failed", 27000, code="server_error", message="An error.", effect="retried"),
        tell("usage_reported", 28000, source="transcription", model="whisper", cost_usd=None),
        tell("brand_new", 28500, colour="blue"),
        usage(29000, 0.03, call=call, epoch=2, audio_out=20, text_in=50),
        tell("ended", 30900, epoch=2, reason="caller_hung_up", duration_ms=30000, cost_usd=0.03),
    ]
