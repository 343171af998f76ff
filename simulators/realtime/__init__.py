"""The model stand-in, in rooms. All but `server` is pure and takes time as an argument.

`session` is the conversation's mind: client events and timers in, server events out. It rests on
`config` and `requests` (what is refused), `conversation` (the items), `vad` (who speaks), `script`
and `director` (what is said), `response` (in which order), `usage` (what it costs), `faults` (what
goes wrong). `server` puts it on a WebSocket and `record` remembers what passed.

"OpenAI:" in a comment marks a fact about the service that the stand-in imitates.
"""
