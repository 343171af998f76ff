"""The model stand-in, in rooms. All but `server` is pure and takes time as an argument.

`session` is one connection's mind: client events and timers in, server events out. It joins
`caller_side` (audio in; turns, items and transcripts out) and `model_side` (which responses run),
both writing to one `outbox`. Below them: `config` and `requests` say what is refused,
`conversation` holds the items, `listening` and `vad` hear who speaks, `script` and `director`
choose what is said, `response` puts it in order, `usage` counts what it costs, `faults` names what
goes wrong. `server` puts it all on a WebSocket and `record` remembers what passed.

"OpenAI:" in a comment marks a fact about the service that the stand-in imitates.
"""
