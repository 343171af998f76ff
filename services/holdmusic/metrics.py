"""Every metric of the hold-music service.  Health and leaks are in shared/lifecycle.py."""

from prometheus_client import Counter, Gauge, Histogram

#: Gauge.  Calls that hear music now; at `switchboard_holdmusic_max` more are refused.
HOLDS = Gauge("switchboard_holdmusic_holds", "calls that hear music now")
#: Gauge.  `MAX_HOLDS`.
MAX = Gauge("switchboard_holdmusic_max", "calls that can hear music at once")
#: Counter by source: store, fallback-store, cache, built-in.  Anything but `store` rising while a
#: store is configured: look at `switchboard_holdmusic_store_up` and the log.
STARTED = Counter("switchboard_holdmusic_started_total", "holds that began", ["source"])
#: Counter.  Holds that did not get the track they named, or the default one.
FALLBACKS = Counter("switchboard_holdmusic_fallbacks_total", "holds with another track than asked")
#: Counter by code: full (raise MAX_HOLDS or add instances), invalid (mixed versions), failed.
REFUSED = Counter("switchboard_holdmusic_refused_total", "holds that did not begin", ["code"])
#: Counter by how: stop (the owner said so), limit, moved (another instance plays), service.
#: `limit` rising: owners die, or their stop gets lost.
ENDED = Counter("switchboard_holdmusic_ended_total", "holds that ended", ["how"])
#: Histogram, s.  Request to answer.  The promise is 1 s; above 0.5 s tracks are fetched on demand.
ANSWER_S = Histogram(
    "switchboard_holdmusic_answer_seconds",
    "request to answer",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2),
)
#: Histogram, s.  How late the ticker was.  Above 0.1 s the phone's reserve is used up: too many
#: holds for this machine.
LATE_S = Histogram(
    "switchboard_holdmusic_tick_late_seconds",
    "how late the ticker was",
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
)
#: Counter, ms.  Music that was passed over after a stall; should stay 0.
SKIPPED_MS = Counter("switchboard_holdmusic_skipped_ms_total", "music passed over after a stall")
#: Gauge by store: 1 while it answers.
STORE_UP = Gauge("switchboard_holdmusic_store_up", "1 while the store answers", ["store"])
#: Histogram, s.  Download and decoding of one track.
FETCH_S = Histogram(
    "switchboard_holdmusic_fetch_seconds",
    "download and decoding of a track",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
)
#: Counter by what: store (it failed), track (it is no music), disk (it could not be kept).
FETCH_FAILURES = Counter(
    "switchboard_holdmusic_fetch_failures_total", "tracks that could not be fetched", ["what"]
)
#: Gauge, bytes.  Decoded tracks on disk; the limit is MUSIC_CACHE_BYTES.
CACHE_BYTES = Gauge("switchboard_holdmusic_cache_bytes", "decoded tracks on disk")
#: Counter.  Messages on our subjects that made no sense.  Rising: mixed versions.
MALFORMED = Counter("switchboard_holdmusic_malformed_total", "bus messages not understood")
