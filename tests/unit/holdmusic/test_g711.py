"""Mu-law tables, against the formulas of G.711, for every sample there is."""

import numpy as np
import pytest

from services.holdmusic import g711

pytestmark = pytest.mark.unit

EVERY = np.arange(-32768, 32768).astype(np.int16)


def by_formula(sample: int) -> int:
    sample >>= 2
    mask = 0xFF
    if sample < 0:
        sample, mask = -sample, 0x7F
    sample = min(sample, 8158) + 33
    segment = sample.bit_length() - 6
    return ((segment << 4) | ((sample >> (segment + 1)) & 15)) ^ mask


def test_every_sample_is_encoded_by_the_formula() -> None:
    assert list(g711.encode(EVERY)) == [by_formula(int(sample)) for sample in EVERY]


def test_every_code_survives_but_for_the_second_zero() -> None:
    codes = bytes(range(256))
    again = g711.encode(g711.decode(codes))
    assert [code for code in range(256) if again[code] != code] == [0x7F]


def test_silence_is_silent_and_zero_bytes_are_loud() -> None:
    assert g711.decode(b"\xff\x00\x80").tolist() == [0, -32124, 32124]


def test_the_round_trip_is_as_good_as_it_gets() -> None:
    error = np.abs(g711.decode(g711.encode(EVERY)).astype(int) - EVERY)
    assert error.max() <= 644
    assert error[np.abs(EVERY.astype(int)) <= 1000].max() <= 35
