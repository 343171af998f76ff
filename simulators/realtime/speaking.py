"""From a line of text to the audio and the deltas of a response, and from wire bytes to samples."""

import random
from typing import Any

import numpy as np

from simulators import g711, speech
from simulators.realtime.config import bytes_per_ms

__all__ = ["audio_pieces", "render", "samples_of", "text_pieces"]

Json = dict[str, Any]

_FIRST_PIECE_MS = (40, 120)
_PIECE_MS = (70, 430)


def samples_of(audio: bytes, audio_format: Json) -> tuple[g711.Pcm, int]:
    """Return the samples of wire audio and their rate in Hz."""
    match audio_format["type"]:
        case "audio/pcmu":
            return g711.decode(audio), g711.SAMPLE_RATE
        case "audio/pcma":
            return g711.decode_alaw(audio), g711.SAMPLE_RATE
        case _:
            return np.frombuffer(audio[: len(audio) // 2 * 2], dtype="<i2"), 24000


def render(text: str, *, voice: str | Json, audio_format: Json, audio_ms: int | None) -> bytes:
    """Return `text` spoken, as wire audio; repeated or cut to `audio_ms` if that is given."""
    rate_hz = bytes_per_ms(audio_format) * 1000 // (2 if _is_linear(audio_format) else 1)
    name = voice if isinstance(voice, str) else str(voice["id"])
    samples = speech.speak(text, voice=name, rate_hz=rate_hz)
    if audio_ms is not None:
        samples = np.resize(samples, rate_hz * audio_ms // 1000)
    if _is_linear(audio_format):
        return samples.astype("<i2").tobytes()
    if audio_format["type"] == "audio/pcma":
        return g711.encode_alaw(samples)
    return g711.encode(samples)


def _is_linear(audio_format: Json) -> bool:
    return bool(audio_format["type"] == "audio/pcm")


def audio_pieces(audio: bytes, audio_format: Json, rng: random.Random) -> list[bytes]:
    """Cut audio into deltas.

    OpenAI: the sizes vary and have nothing to do with a telephone's frames of 20 ms. Here a piece
    ends on any sample.
    """
    sample_bytes = 2 if _is_linear(audio_format) else 1
    samples_per_ms = bytes_per_ms(audio_format) // sample_bytes
    pieces: list[bytes] = []
    start = 0
    while start < len(audio):
        low_ms, high_ms = _PIECE_MS if pieces else _FIRST_PIECE_MS
        samples = rng.randint(low_ms * samples_per_ms, high_ms * samples_per_ms)
        pieces.append(audio[start : start + samples * sample_bytes])
        start += samples * sample_bytes
    return pieces


def text_pieces(text: str, rng: random.Random) -> list[str]:
    """Cut text into deltas of one to three words, each with the space before it."""
    words = text.split(" ")
    pieces: list[str] = []
    start = 0
    while start < len(words):
        count = rng.randint(1, 3)
        piece = " ".join(words[start : start + count])
        pieces.append(f" {piece}" if start else piece)
        start += count
    return [piece for piece in pieces if piece]
