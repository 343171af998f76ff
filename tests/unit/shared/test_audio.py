"""Bytes are time."""

import pytest
from hypothesis import given, strategies as st

from shared.audio import FORMATS, FRAME_MS, PCM24K, PCMU, AudioFormat

pytestmark = pytest.mark.unit

ANY_FORMAT = st.sampled_from(sorted(FORMATS.values(), key=lambda one: one.name))


def test_a_frame_of_a_phone_is_160_bytes_and_of_a_browser_960() -> None:
    assert (PCMU.bytes_per_ms, PCMU.frame_bytes) == (8, 160)
    assert (PCM24K.bytes_per_ms, PCM24K.frame_bytes) == (48, 960)
    assert FRAME_MS == 20


def test_silence_is_quiet_in_each_format() -> None:
    assert PCMU.silence(20) == b"\xff" * 160  # zero bytes are loud in mu-law
    assert PCM24K.silence(20) == bytes(960)
    assert PCMU.silence(0) == PCMU.silence(-5) == b""


@given(ANY_FORMAT, st.integers(0, 100_000))
def test_silence_lasts_as_long_as_asked(audio: AudioFormat, duration_ms: int) -> None:
    assert audio.ms(len(audio.silence(duration_ms))) == duration_ms


@given(ANY_FORMAT, st.integers(0, 10_000))
def test_milliseconds_are_rounded_down(audio: AudioFormat, size: int) -> None:
    assert audio.ms(size) * audio.bytes_per_ms <= size < (audio.ms(size) + 1) * audio.bytes_per_ms


@given(ANY_FORMAT, st.binary(max_size=5000), st.integers(1, 500))
def test_cutting_loses_nothing_and_makes_no_piece_too_long(
    audio: AudioFormat, data: bytes, piece_ms: int
) -> None:
    pieces = list(audio.cut(data, piece_ms))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= piece_ms * audio.bytes_per_ms for piece in pieces)
    assert all(len(piece) == piece_ms * audio.bytes_per_ms for piece in pieces[:-1])
