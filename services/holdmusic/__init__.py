"""holdmusic: plays music into calls that wait, from tracks in an S3 bucket.

In:  `holdmusic.play`, `holdmusic.status`, `holdmusic.files` (queue group `holdmusic`),
     `call.*.hold.*.stop`
Out: `call.C.hold.<n>.audio` (paced, in the call's own format), `call.C.hold.<n>.stop`

How it fails: a store that is away, slow or wrong never keeps a caller in silence.  What plays is,
in order: the primary store's track, the second store's, one decoded earlier (disk cache), the
built-in one; the answer says which and why, within a second.  When the service dies the caller
hears silence and the call goes on; nothing of ours waits for it.
"""
