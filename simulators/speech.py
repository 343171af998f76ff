"""Real, audible speech for the simulators, by eSpeak NG out of the wheel `espeakng-loader`.

Nobody mistakes it for a person, but it has the energy, pauses and formants of speech: voice
activity detectors react to it, and a recording of a simulated call can be listened to.
"""

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from simulators import g711

__all__ = ["VOICES", "SpeechError", "speak"]

Pcm = NDArray[np.int16]

VOICES = {
    # OpenAI's voice names.
    "alloy": "en-us+f1",
    "ash": "en-us+m1",
    "ballad": "en-gb-x-rp+m2",
    "cedar": "en-gb-x-rp+m3",
    "coral": "en-us+f2",
    "echo": "en-us+m4",
    "marin": "en-us+f3",
    "sage": "en-gb-x-rp+f4",
    "shimmer": "en-gb-x-rp+f5",
    "verse": "en-us+m7",
    # People who call.
    "caller": "en-us+m8",
    "caller2": "en-gb-x-rp+f2",
}
_OTHER_VOICE = "en-us"
"""Spoken by names not listed, as OpenAI also allows custom voices."""

_LEVEL_DBFS = -20.0
"""About what a telephone carries; leaves 20 dB for the peaks of speech."""

_QUIET = 200
"""Samples smaller than this at either end are trimmed: -44 dBFS, below any spoken sound."""

_TEXT_CHARS_MAX = 5000
"""About six minutes of speech; more is a mistake in a script."""

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_EE_OK = 0
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class SpeechError(RuntimeError):
    """eSpeak NG could not be loaded, or refused to speak."""


class _Engine:
    """The one copy of the library in this process. It has global state: call it under the lock."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = espeakng_loader.get_data_path().encode()
        self.rate_hz: int = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path, 0
        )
        if self.rate_hz <= 0:
            raise SpeechError("eSpeak NG did not start")
        self._pieces: list[bytes] = []
        # The library keeps only a pointer to the callback, so this object must stay alive.
        self._callback: Callable[..., int] = _SYNTH_CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, count * 2))
        return 0  # go on

    def speak(self, text: str, espeak_voice: str) -> Pcm:
        if self._library.espeak_SetVoiceByName(espeak_voice.encode()) != _EE_OK:
            raise SpeechError(f"eSpeak NG has no voice {espeak_voice}")
        self._pieces.clear()
        encoded = text.encode()
        status = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _CHARS_UTF8, None, None
        )
        if status != _EE_OK:
            raise SpeechError(f"eSpeak NG refused to speak (status {status})")
        return np.frombuffer(b"".join(self._pieces), dtype=np.int16)


_lock = threading.Lock()


@functools.cache
def _engine() -> _Engine:
    return _Engine()


@functools.lru_cache(maxsize=128)  # 128 sentences of 5 s at 24 kHz: about 30 MB
def speak(text: str, *, voice: str, rate_hz: int) -> Pcm:
    """Return `text` as speech, without silence at either end, at about -20 dBFS.

    `voice` is one of `VOICES`; any other name speaks with a neutral voice. The array is shared
    between callers and cannot be written to. A text without a spoken sound gives an empty array.
    """
    if len(text) > _TEXT_CHARS_MAX:
        raise SpeechError(f"a text of {len(text)} characters, more than {_TEXT_CHARS_MAX}")
    with _lock:
        engine = _engine()
        spoken = engine.speak(text, VOICES.get(voice, _OTHER_VOICE))
        from_hz = engine.rate_hz
    speech = g711.resample(_levelled(_trimmed(spoken)), from_hz, rate_hz)
    speech.flags.writeable = False
    return speech


def _trimmed(pcm: Pcm) -> Pcm:
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _QUIET)
    return pcm[loud[0] : loud[-1] + 1] if len(loud) else pcm[:0]


def _levelled(pcm: Pcm) -> Pcm:
    if not len(pcm):
        return pcm
    factor = 10 ** ((_LEVEL_DBFS - g711.rms_dbfs(pcm)) / 20)
    levelled: Pcm = np.clip(pcm * factor, -32768, 32767).astype(np.int16)
    return levelled
