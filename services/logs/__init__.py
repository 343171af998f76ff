"""logs: keeps the story of every call as one record, and tells it to whoever asks.

In:  `call.*.event.<name>`, by the durable consumer `logs` of the stream `EVENTS`, shared by all
     instances; `logs.list`, `logs.call`, `logs.export` (requests, queue group `logs`)
Out: the key-value bucket `records`, one record a call, written by compare-and-set; the answers

How it fails: a line of a story is acknowledged after its record is written, so whatever dies, the
line comes again, and a line that comes twice changes nothing.  While the service is away, calls go
on and their stories wait in the stream.
"""
