"""What a phone says and presses before its call's owner listens: kept in order, bounded.

Pure: no I/O, no clock.
"""

import collections
from collections.abc import Iterator

from shared.messages import Message


class Early:
    """Audio beyond `audio_max_bytes` pushes out the oldest audio; control is never pushed out."""

    def __init__(self, *, audio_max_bytes: int, controls_max: int) -> None:
        self._audio_max_bytes = audio_max_bytes
        self._controls_max = controls_max
        self._kept: collections.deque[bytes | Message] = collections.deque()
        self._audio_bytes = 0
        self._controls = 0

    def keep_audio(self, audio: bytes) -> int:
        """Returns how many bytes were pushed out."""
        self._kept.append(audio)
        self._audio_bytes += len(audio)
        dropped = 0
        while self._audio_bytes > self._audio_max_bytes:
            dropped += self._drop_oldest_audio()
        return dropped

    def _drop_oldest_audio(self) -> int:
        for place, one in enumerate(self._kept):  # at most `controls_max` steps to the first audio
            if isinstance(one, bytes):
                del self._kept[place]
                self._audio_bytes -= len(one)
                return len(one)
        raise AssertionError("bytes are counted that are not there")

    def keep_control(self, message: Message) -> bool:
        """False: there are so many that this is no person pressing keys; not kept."""
        if self._controls >= self._controls_max:
            return False
        self._controls += 1
        self._kept.append(message)
        return True

    def release(self) -> Iterator[bytes | Message]:
        """All of it, oldest first; empty afterwards."""
        while self._kept:
            yield self._kept.popleft()
        self._audio_bytes = self._controls = 0
