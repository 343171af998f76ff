"""tools: answers the model's function calls: weather and prescriptions.

In:  `tool.<name>` (requests, queue group `tools`), each an endpoint of the NATS micro service
     `switchboard-tools`, which tells of itself on `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`
Out: the answers; HTTPS to Open-Meteo; SQL to the prescriptions' database

How it fails: every request gets one answer in time, the tool's output or a micro error with a short
code and a sentence for the model.  A crash ends one request; a database or a weather service that
is away makes its own tools answer `unavailable` and no other.  See docs/tools.md.
"""
