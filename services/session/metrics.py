"""Every metric of the session service.  Health and leaks are in shared/lifecycle.py."""

from prometheus_client import Counter, Gauge, Histogram

from shared import messages

#: Gauge.  Calls this worker owns now; at `switchboard_session_max` it takes no more.
ACTIVE = Gauge("switchboard_session_active", "calls owned by this worker")
#: Gauge.  `MAX_CALLS`.
MAX = Gauge("switchboard_session_max", "calls this worker can own")
#: Counter.  How calls ended.  `model_unavailable` rising: look at the model or the account.
ENDED = Counter("switchboard_session_ended_total", "calls ended", ["reason"])
#: Counter.  Offers this worker could not take.  Rising: more workers, or larger MAX_CALLS.
REFUSED = Counter("switchboard_session_refused_total", "offers refused", ["code"])
#: Histogram, s.  Phone attached to first agent audio.
GREETING_S = Histogram(
    "switchboard_greeting_seconds",
    "phone attached to first agent audio",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
#: Histogram, s.  End of the caller's speech, as the model heard it, to the agent's first audio.
REPLY_S = Histogram(
    "switchboard_reply_seconds",
    "end of caller's speech to first agent audio",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
#: Histogram, s.  Dialling to configured.
DIAL_S = Histogram(
    "switchboard_dial_seconds",
    "dialling to configured",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
#: Counter.  Barge-ins.
INTERRUPTIONS = Counter("switchboard_interruptions_total", "agent items cut by the caller")
#: Counter.  What the model refused or dropped, by what we did about it.
MODEL_FAILURES = Counter("switchboard_model_failures_total", "model failures", ["effect"])
#: Counter.  Function calls by what became of them; `timeout`, `unavailable`: look at the tool.
TOOLS = Counter("switchboard_tools_total", "function calls of the model", ["outcome"])
#: Histogram, s.  The model's call to its output, as the caller waits for it.
TOOL_S = Histogram(
    "switchboard_tool_seconds",
    "function call to its output",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 15, 30, 60, 300),
)
#: Counter.  Times of hold music by why it stopped; `failed`: look at the music service.
HOLDS = Counter("switchboard_holds_total", "times of hold music", ["reason"])
#: Histogram, s.  How long callers hear music at a time.
HOLD_S = Histogram(
    "switchboard_hold_seconds", "hold music at a time", buckets=(0.5, 1, 2, 3, 5, 8, 15, 30, 60)
)
#: Counter.  Transfers by what became of them.
TRANSFERS = Counter("switchboard_transfers_total", "calls handed over", ["outcome"])
#: Counter, USD.  Money spent on the model, where the price is known.
COST_USD = Counter("switchboard_cost_usd_total", "cost of ended calls")
#: Counter.  Legal events at an illegal moment.  Rising: the vendor changed its protocol.
VENDOR_SURPRISES = Counter("switchboard_model_surprises_total", "model events out of order")
#: Counter.  Frames from the model that made no sense.  As above.
MALFORMED_EVENTS = Counter("switchboard_model_malformed_total", "model frames not understood")
#: Counter.  Messages on our own subjects that made no sense.  Rising: mixed versions.
MALFORMED_MESSAGES = Counter("switchboard_bus_malformed_total", "bus messages not understood")


def observe(event: messages.Event) -> None:
    """Count what a line of the story says."""
    match event:
        case messages.AgentStartedSpeaking(after=after, latency_ms=ms) if ms is not None:
            (GREETING_S if after == "greeting" else REPLY_S).observe(ms / 1000)
        case messages.ModelReady(dial_ms=ms):
            DIAL_S.observe(ms / 1000)
        case messages.Interrupted():
            INTERRUPTIONS.inc()
        case messages.ModelFailed(effect=effect):
            MODEL_FAILURES.labels(effect).inc()
        case messages.ToolAnswered(error=error, duration_ms=ms):
            TOOLS.labels(_known(error or "ok", _OUTCOMES)).inc()
            TOOL_S.observe(ms / 1000)
        case messages.HoldEnded(reason=reason, duration_ms=ms):
            HOLDS.labels(reason).inc()
            HOLD_S.observe(ms / 1000)
        case messages.TransferStarted():
            TRANSFERS.labels("started").inc()
        case messages.TransferFailed():
            TRANSFERS.labels("failed").inc()
        case messages.CallEnded(reason=reason, cost_usd=cost):
            ENDED.labels(_known(reason, _REASONS)).inc()
            COST_USD.inc(cost)
        case _:
            pass


#: What comes from outside is one label value: a label must not grow without bound.
_REASONS = frozenset(
    {
        "agent_hung_up",
        "caller_hung_up",
        "caller_lost",
        "failed",
        "max_duration",
        "model_unavailable",
        "never_attached",
        "operator",
        "transferred",
        "worker_stopped",
    }
)
_OUTCOMES = frozenset(
    {
        "busy",
        "failed",
        "interrupted",
        "invalid_arguments",
        "invalid_json",
        "invalid_output",
        "ok",
        "output_too_large",
        "timeout",
        "too_many",
        "unavailable",
        "unknown_tool",
    }
)


def _known(value: str, values: frozenset[str]) -> str:
    return value if value in values else "other"
