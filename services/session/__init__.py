"""session: the mind of a call.  Owns the model's socket and every rule of the conversation.

In:  `calls.offer` (queue group `session`), `call.C.cmd`, `call.C.up.<leg>.audio` / `.ctl`
Out: `call.C.down.<epoch>.audio` / `.ctl`, `call.C.event.<name>`, `session.<worker>.beat`,
     requests to `tool.<name>`, `holdmusic.play`; `call.C.hold.<n>.stop`; asks `$SRV.INFO`
KV:  reads `agents`; writes `calls` (claim, leg, end) by compare-and-set

How it fails: a model that cannot be reached is dialled again, bounded; then the call ends with the
reason in its record, and the gateway tells the caller.  A worker with no room leaves the queue
group, so that a gateway hears "no responders" at once.  One call's crash ends that call only.  A
tool that does not work is a short error to the model; music that cannot be had is silence.

Inside: `machine.py` is the rules of a call, pure; `driver.py` performs what they want.  The machine
has `line.py` (the phone's side) and `conversation.py`, where `link.py`, `turns.py`, `voice.py`,
`errands.py`, `leaving.py` and `holding.py` meet.
"""
