"""Every metric of the gateway.

Nothing here is touched per audio frame: frames are counted in plain integers by their stream and
added when it ends; what is counted at once (drops, gaps, garbage) is rare.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# Gauge: phone sockets open now.  Rises with load; never falling to 0 at night is a leak.
STREAMS: Final = Gauge("switchboard_gateway_streams", "phone sockets open now")

# Counter by how a socket ended: stopped (Twilio said so), hung_up (the agent), moved (another leg
# took over), lost (it broke, the caller may come back), refused (no owner, wrong call).  When
# `lost` rises: network, proxy time-outs (`proxy_read_timeout`), gateways restarting.  `refused`:
# session workers are missing.
STREAMS_ENDED: Final = Counter("switchboard_gateway_streams_ended", "ended phone sockets", ["how"])

# Counters: Twilio's frames in, audio messages out; the load of the hot path.
FRAMES_UP: Final = Counter("switchboard_gateway_frames_up", "audio frames from phones")
FRAMES_DOWN: Final = Counter("switchboard_gateway_frames_down", "audio messages to phones")
# Counter: those of FRAMES_DOWN that were hold music.
FRAMES_MUSIC: Final = Counter("switchboard_gateway_frames_music", "hold music to phones")

# Counter by reason: a socket was not accepted.  `signature`: PUBLIC_URL or TWILIO_AUTH_TOKEN is
# wrong, or somebody else knocks.  `expired`: Twilio came late, see STREAM_TOKEN_TTL_S.  `used`: a
# replay.  `bad_signature`: gateways disagree on STREAM_TOKEN_SECRET.  `no_kv`: NATS is away.
UPGRADES_REFUSED: Final = Counter(
    "switchboard_gateway_upgrades_refused", "sockets not accepted", ["reason"]
)

# Counter by route and reason: a webhook was not accepted.  `signature`: as above.
WEBHOOKS_REFUSED: Final = Counter(
    "switchboard_gateway_webhooks_refused", "webhooks not accepted", ["route", "reason"]
)

# Histogram by route: seconds until a webhook was answered.  Twilio gives up at 15; above 3, look
# at the session workers and NATS.
WEBHOOK_SECONDS: Final = Histogram(
    "switchboard_gateway_webhook_seconds",
    "time to answer a webhook",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 15),
)

# Counter by outcome: taken, busy (add workers), ended, failed (workers do not answer or refuse).
OFFERS: Final = Counter("switchboard_gateway_offers", "calls offered to workers", ["outcome"])

# Counter by kind: frames on a phone socket that are not what Twilio sends.  Rising: somebody
# else's client, or Twilio changed its format (then `unknown_event` or `shape`).
GARBAGE: Final = Counter("switchboard_gateway_garbage", "frames that made no sense", ["kind"])

# Counter: milliseconds of silence put where Twilio's timestamps jumped.  Rising: packets are lost
# between caller and Twilio.
GAPS_FILLED_MS: Final = Counter("switchboard_gateway_gaps_filled_ms", "silence put into gaps")

# Counter by kind: timestamps that could not be followed (backwards, absurd, cut: a gap longer than
# is filled).  Should stay 0.
GAPS_ODD: Final = Counter("switchboard_gateway_gaps_odd", "timestamps not followed", ["kind"])

# Counter by place: audio bytes thrown away.  `early`: the owner was slow to attach.  `phone`: the
# phone's network is too slow for us.
DROPPED_BYTES: Final = Counter(
    "switchboard_gateway_dropped_audio_bytes", "audio thrown away", ["where"]
)
DROPPED_EARLY: Final = DROPPED_BYTES.labels("early")
DROPPED_TO_PHONE: Final = DROPPED_BYTES.labels("phone")
#: Counter.  Streams closed because their owner had stopped beating.  Rising: session workers die.
OWNERS_DEAD = Counter("switchboard_gateway_owners_dead_total", "streams whose owner died")

# Counter by what (transfer, digits) and code: `ok`, Twilio's error code, or ours.
# `no_credentials`: see TWILIO_ACCOUNT_SID.  `20003`: they are wrong.  `call_gone`: the caller was
# faster.
CALL_UPDATES: Final = Counter(
    "switchboard_gateway_call_updates", "calls changed by REST", ["what", "code"]
)

# Histogram: seconds that Twilio's REST API took.  Usually below 0.5; it is given up at 5.
REST_SECONDS: Final = Histogram(
    "switchboard_gateway_rest_seconds",
    "time of a REST request",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5),
)

# Counter by Twilio's DialCallStatus: how transfers ended.
DIALS: Final = Counter("switchboard_gateway_dials", "ended transfers", ["status"])
