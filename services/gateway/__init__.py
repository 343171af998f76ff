"""gateway: the edge of the house.  Answers Twilio's webhooks and carries a call's audio.

HTTP: `/twiml`, `/twiml/after`, `/twiml/dial-result`, `/twilio/status`, `/public-url`, `/healthz`,
`/readyz`, `/metrics`; on loopback or by setting: `/tools`, `/hold-music/status`,
`/hold-music/files`;
WebSocket: `/call/<token>` and, by setting, `/call`

Out: `calls.offer`, `call.C.cmd`, `holdmusic.status`, `holdmusic.files`, `$SRV.INFO` (requests),
     `call.C.up.<leg>.audio` / `.ctl`; Twilio's REST API for transfers and keys
In:  `call.C.down.<epoch>.audio` / `.ctl`, `call.C.hold.<n>.audio` while hold n is on
KV:  reads `calls`; uses each stream token up in `stream_tokens`

How it fails: no worker has room, the caller hears that the line is busy; NATS or the worker does
not answer, the caller hears that we are sorry.  When a gateway dies or stops, Twilio asks
`/twiml/after` of another one, which puts the caller back to the call's owner.  Garbage on a socket
is counted and survived.  Nothing that comes from outside becomes part of a subject unchecked.
"""
