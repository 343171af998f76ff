"""Any music file to a call's bytes, by `av` (FFmpeg): blocking, so it is called in a thread.

What a file is, is told by its content and never by its name: an MP3 called `.wav` plays, and no
container's bytes are ever sent to a phone as if they were mu-law.
"""

import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from services.holdmusic import g711, loudness, waves
from services.holdmusic.g711 import Pcm
from services.holdmusic.loudness import Samples
from shared.audio import PCMU, AudioFormat

#: Headerless mu-law at 8 kHz: played as it is.
RAW: Final = ".raw"
#: What `holdmusic.files` names; a file with another ending is tried all the same.
SUPPORTED: Final = (
    *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mka", ".mp3", ".mp4"),
    *(".oga", ".ogg", ".opus", RAW, ".wav", ".webm", ".wma"),
)
#: Containers of audio.  FFmpeg also opens playlists and scripts (hls, concat, sdp), which name
#: other files and addresses to open: a bucket's file must not make us read those.
_CONTAINERS: Final = "aac,aiff,amr,asf,au,caf,flac,matroska,mov,mp3,ogg,w64,wav"
_OPTIONS: Final = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
#: What strange files have made PyAV raise besides FFmpeg's own errors.
_ODD: Final = (
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: Shorter than this is no music but a click, repeated for ever.
SHORTEST_S: Final = 0.5
#: Packets of a file that may be damaged (half a second of MP3) before it counts as no music.
BROKEN_PACKETS: Final = 20
#: First bytes of containers, at their offset, for a file that claims to be headerless.
_MAGIC: Final = (
    *((0, mark) for mark in (b"RIFF", b"RIFX", b"RF64", b"ID3", b"fLaC", b"OggS", b"FORM")),
    *((0, mark) for mark in (b"\x1aE\xdf\xa3", b"caff", b".snd", b"#!AMR", b"0&\xb2u")),
    (4, b"ftyp"),
)


class NotMusicError(ValueError):
    """The file cannot be played; the message says why, to a person."""


def decode(data: bytes, key: str, format_: AudioFormat, *, limit_s: float) -> bytes:
    """The whole track in a call's format: mono, even loudness, ready to be looped.

    Raises `NotMusicError`.
    """
    if PurePosixPath(key).suffix.lower() == RAW and not _has_header(data):
        return _raw(data, format_, limit_s)
    try:
        samples = _samples(data, format_.rate_hz, limit_s)
    except NotMusicError:
        raise
    except av.error.FFmpegError as error:
        raise NotMusicError(f"it is no audio file that can be read ({error.strerror})") from error
    except _ODD as error:
        reason = type(error).__name__
        raise NotMusicError(f"it is no audio file that can be read ({reason})") from error
    if len(samples) < SHORTEST_S * format_.rate_hz:
        raise NotMusicError(f"it is shorter than {SHORTEST_S} s")
    try:
        pcm = loudness.for_the_phone(samples, format_.rate_hz)
    except loudness.SilentError as error:
        raise NotMusicError(str(error)) from error
    return waves.to_audio(pcm, format_)


def _raw(data: bytes, format_: AudioFormat, limit_s: float) -> bytes:
    """As it is on a phone line; for a browser the same samples at its rate."""
    seconds = len(data) / PCMU.rate_hz
    if seconds < SHORTEST_S:
        raise NotMusicError(f"it is shorter than {SHORTEST_S} s")
    if seconds > limit_s:
        raise NotMusicError(_too_long(limit_s))
    if format_ is PCMU:
        return data
    pcm = g711.decode(data)
    frame = AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = PCMU.rate_hz
    resampler = AudioResampler(format="s16", layout="mono", rate=format_.rate_hz)
    parts: list[Pcm] = [
        out.to_ndarray()[0].astype(np.int16)
        for given in (frame, None)
        for out in resampler.resample(given)
    ]
    return waves.to_audio(np.concatenate(parts), format_)


def _samples(data: bytes, rate_hz: int, limit_s: float) -> Samples:
    """Mono float32 at `rate_hz`."""
    parts: list[Samples] = []
    size = 0
    for part in _frames(data, rate_hz):
        size += len(part)
        if size > limit_s * rate_hz:
            raise NotMusicError(_too_long(limit_s))
        parts.append(part)
    # Not `concatenate`: a long track would be in memory twice.
    out: Samples = np.empty(size, dtype=np.float32)
    while parts:
        part = parts.pop()
        out[size - len(part) : size] = part
        size -= len(part)
    return out


def _frames(data: bytes, rate_hz: int) -> Iterator[Samples]:
    with av.open(io.BytesIO(data), mode="r", container_options=_OPTIONS) as container:
        if not container.streams.audio:
            raise NotMusicError("there is no sound in it")
        resampler = AudioResampler(format="flt", layout="mono", rate=rate_hz)
        broken = 0
        for packet in container.demux(container.streams.audio[0]):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                # A damaged packet is a click, a damaged file is nothing but those.
                broken += 1
                if broken > BROKEN_PACKETS:
                    raise
                continue
            for frame in frames:
                for out in resampler.resample(frame):
                    yield out.to_ndarray()[0]
        for out in resampler.resample(None):
            yield out.to_ndarray()[0]


def _too_long(limit_s: float) -> str:
    return f"it is longer than {limit_s:.0f} s (TRACK_LIMIT_S)"


def _has_header(data: bytes) -> bool:
    """Whether these bytes are a container's and not samples."""
    if any(data[at : at + len(mark)] == mark for at, mark in _MAGIC):
        return True
    return _is_mpeg(data)


#: Bit rates in kbit/s and sample rates of MPEG audio, layer III: version 1, and 2 with 2.5.
_KBITS: Final = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
)
_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
#: Frames that must follow each other: quiet mu-law has bytes like a frame's header, by chance.
_FRAMES: Final = 4


def _is_mpeg(data: bytes) -> bool:
    """Whether a chain of MP3 frames begins at the first byte."""
    at = 0
    for _ in range(_FRAMES):
        size = _mpeg_frame(data[at : at + 4])
        if size == 0:
            return False
        at += size
    return True


def _mpeg_frame(header: bytes) -> int:
    """Bytes of the MP3 frame that begins so; 0: none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version = header[1] >> 3 & 3
    kbits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return 0
    factor = 144 if version == 3 else 72
    bits = _KBITS[0 if version == 3 else 1][kbits] * 1000
    return factor * bits // _RATES[version][rate] + (header[2] >> 1 & 1)
