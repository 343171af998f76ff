"""Every metric of the tools service."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# Counter by tool and outcome: `ok` or the error's code.  `timeout`, `unavailable`: look at what the
# tool asks (weather, database).  `failed`: a bug, see the log.  `invalid_arguments`: improve the
# tool's description.  `busy`: more instances, or raise TOOLS_MAX_RUNNING.
REQUESTS: Final = Counter("switchboard_tools_requests", "requests answered", ["tool", "outcome"])

# Histogram by tool: seconds from request to answer.  Music starts at HOLD_DELAY_MS.
SECONDS: Final = Histogram(
    "switchboard_tools_seconds",
    "time to answer a request",
    ["tool"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120),
)

# Gauge: requests being answered now.  Near TOOLS_MAX_RUNNING: add instances.
RUNNING: Final = Gauge("switchboard_tools_running", "requests being answered now")

# Counter by tool: a call id came again and got its first answer.  Some after a session worker's
# death; many: a session asks too early.
DUPLICATES: Final = Counter("switchboard_tools_duplicates", "requests that came twice", ["tool"])

# Counter: answers that nobody can have got.  NATS was away, or the request had no reply subject.
UNSENT: Final = Counter("switchboard_tools_unsent", "answers that could not be sent")

# Counter by outcome of asking Open-Meteo: ok, cached, retried (the first try failed, counted beside
# the final outcome), unreachable, status (an HTTP error), garbage (an answer we cannot read).
WEATHER: Final = Counter("switchboard_tools_weather", "questions to Open-Meteo", ["outcome"])

# Counter by status: verified, verification_needed, not_verified, several_matches, locked.  A rising
# `not_verified` or `locked`: somebody guesses.
PRESCRIPTIONS: Final = Counter(
    "switchboard_tools_prescriptions", "answers about prescriptions", ["status"]
)

# Gauge: 1 while the prescriptions' database answers, as far as the last request has seen.
DATABASE_UP: Final = Gauge("switchboard_tools_database_up", "1 while the database answers")
