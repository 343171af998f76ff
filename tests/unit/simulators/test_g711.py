import math

import numpy as np
import pytest

from simulators import g711

pytestmark = pytest.mark.unit


def sine(hz: float, *, rate_hz: int, seconds: float = 1.0, peak: int = 10_000) -> g711.Pcm:
    moments = np.arange(int(rate_hz * seconds)) / rate_hz
    return (peak * np.sin(2 * math.pi * hz * moments)).astype(np.int16)


def test_known_bytes_decode_as_twilio_documents_them() -> None:
    assert g711.decode(b"\xff\x7f\x00\x80\xfe\x7e").tolist() == [0, 0, -32124, 32124, 8, -8]


def test_small_samples_encode_with_the_documented_asymmetry() -> None:
    samples = np.array([0, 1, 3, 4, 11, -1, -8], dtype=np.int16)
    assert g711.encode(samples) == b"\xff\xff\xff\xfe\xfe\x7e\x7e"


def test_every_byte_survives_a_round_trip_except_negative_zero() -> None:
    everything = bytes(range(256))
    assert g711.encode(g711.decode(everything)) == everything.replace(b"\x7f", b"\xff")


def test_the_largest_round_trip_error_is_at_full_scale() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16)
    errors = np.abs(g711.decode(g711.encode(samples)).astype(np.int32) - samples)
    assert errors.max() == 644
    assert errors[np.abs(samples.astype(np.int32)) <= 1000].max() == 35


def test_encode_takes_a_view_with_gaps() -> None:
    samples = np.arange(0, 1000, dtype=np.int16)
    assert g711.encode(samples[::2]) == g711.encode(samples[::2].copy())


@pytest.mark.parametrize(("from_hz", "to_hz"), [(22050, 8000), (8000, 24000), (24000, 8000)])
def test_resample_keeps_a_tone_and_its_length(from_hz: int, to_hz: int) -> None:
    resampled = g711.resample(sine(440, rate_hz=from_hz), from_hz, to_hz)
    assert len(resampled) == to_hz
    middle = slice(to_hz // 10, -to_hz // 10)
    difference = resampled.astype(np.int32) - sine(440, rate_hz=to_hz)
    assert np.abs(difference[middle]).max() < 100


def test_resample_removes_what_the_lower_rate_cannot_carry() -> None:
    hiss = g711.resample(sine(6000, rate_hz=24000), 24000, 8000)
    assert g711.rms_dbfs(hiss[800:-800]) < -60


def test_resample_of_nothing_is_nothing() -> None:
    assert len(g711.resample(np.zeros(0, dtype=np.int16), 22050, 8000)) == 0


def test_loudness_is_in_decibels_below_full_scale() -> None:
    assert g711.rms_dbfs(np.full(100, -32768, dtype=np.int16)) == pytest.approx(0)
    assert g711.rms_dbfs(sine(440, rate_hz=8000, peak=32767)) == pytest.approx(-3.01, abs=0.01)
    assert g711.rms_dbfs(np.zeros(100, dtype=np.int16)) == g711.SILENCE_DBFS
    assert g711.rms_dbfs(np.zeros(0, dtype=np.int16)) == g711.SILENCE_DBFS


def test_alaw_silence_and_round_trip() -> None:
    everything = bytes(range(256))
    assert g711.encode_alaw(g711.decode_alaw(everything)) == everything
    assert g711.encode_alaw(np.zeros(2, dtype=np.int16)) == b"\xd5\xd5"
    samples = sine(440, rate_hz=8000)
    errors = np.abs(g711.decode_alaw(g711.encode_alaw(samples)).astype(np.int32) - samples)
    assert errors.max() <= 256
