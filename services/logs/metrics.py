"""Every metric of the logs service.  Health and leaks are in shared/lifecycle.py."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

#: Counter by outcome: folded; repeated (came again after a restart or a lost acknowledgement);
#: unreadable (no line of a story: mixed versions, or somebody else publishes there).
LINES: Final = Counter("switchboard_logs_lines_total", "lines of stories read", ["outcome"])
#: Counter by outcome: written; conflict (another instance wrote first, tried again); failed
#: (JetStream is away or full, tried again).
WRITES: Final = Counter("switchboard_logs_writes_total", "writes of records", ["outcome"])
#: Histogram, bytes.  Records near RECORD_LIMIT_BYTES are cut.
RECORD_BYTES: Final = Histogram(
    "switchboard_logs_record_bytes",
    "size of written records",
    buckets=(1_000, 4_000, 16_000, 64_000, 128_000, 256_000, 512_000),
)
#: Counter by subject's last token and outcome: `ok`, or the code of the refusal.
REQUESTS: Final = Counter(
    "switchboard_logs_requests_total", "requests answered", ["what", "outcome"]
)
#: Histogram by subject's last token, s.  Above 1 s: searches by text over many records.
REQUEST_S: Final = Histogram(
    "switchboard_logs_request_seconds",
    "time to answer",
    ["what"],
    buckets=(0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5),
)
#: Gauge.  Records in the list of this instance.
RECORDS: Final = Gauge("switchboard_logs_records", "records known")
#: Gauge.  Lines of stories that no record holds yet; rising: add instances, or look at WRITES.
WAITING: Final = Gauge("switchboard_logs_waiting_lines", "lines not yet in a record")
