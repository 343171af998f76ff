"""Between a call's bytes and arrays of samples.

Pure: no I/O.
"""

import numpy as np

from services.holdmusic import g711
from services.holdmusic.g711 import Pcm
from shared.audio import AudioFormat


def to_pcm(audio: bytes, format_: AudioFormat) -> Pcm:
    """16-bit samples of a call's audio."""
    if format_.name == "pcmu":
        return g711.decode(audio)
    return np.frombuffer(audio, dtype="<i2").astype(np.int16, copy=False)


def to_audio(pcm: Pcm, format_: AudioFormat) -> bytes:
    """A call's audio from 16-bit samples."""
    if format_.name == "pcmu":
        return g711.encode(pcm)
    return pcm.astype("<i2", copy=False).tobytes()
