"""Costs, held against figures computed by hand from the vendor's price list."""

import pathlib

import pytest

from services.session import pricing
from services.session.pricing import Bill, Price, Prices
from shared.messages import Tokens

pytestmark = pytest.mark.unit


def test_a_response_costs_what_the_price_list_says() -> None:
    prices = pricing.load()
    tokens = Tokens(
        text_in=1000,
        cached_text_in=600,
        audio_in=300,
        cached_audio_in=200,
        text_out=50,
        audio_out=90,
    )
    # 400*4 + 600*0.4 + 100*32 + 200*0.4 + 50*24 + 90*64 = 12,080 USD per million
    assert prices.cost("gpt-realtime-2.1", tokens) == pytest.approx(0.01208)
    # 400*0.6 + 600*0.06 + 100*10 + 200*0.3 + 50*2.4 + 90*20 = 3,256
    assert prices.cost("gpt-realtime-2.1-mini", tokens) == pytest.approx(0.003256)


def test_a_minute_of_the_assistants_speech_costs_about_8_cents() -> None:
    # OpenAI: 1,200 audio tokens a minute, $0.077 at $64 a million
    assert pricing.load().cost("gpt-realtime-2.1", Tokens(audio_out=1200)) == pytest.approx(0.0768)


def test_transcription_costs_by_the_minute() -> None:
    assert pricing.load().cost("gpt-realtime-whisper", Tokens(), 90) == pytest.approx(0.0255)
    assert pricing.load().cost("gpt-transcribe", Tokens(), 60) == pytest.approx(0.0045)


def test_a_dated_name_has_the_price_of_its_family_and_a_suffixed_one_has_not() -> None:
    prices = pricing.load()
    assert prices.of("gpt-realtime-2.1-2026-09-01") is prices.of("gpt-realtime-2.1")
    assert prices.of("gpt-realtime-2.1-mini-2026-09-01") is prices.of("gpt-realtime-2.1-mini")
    assert prices.of("gpt-realtime-2.1-nano") is None
    assert prices.of("gpt-realtime") is None


def test_an_unknown_price_is_told_and_not_taken_for_nothing() -> None:
    bill = Bill(Prices({"a": Price(text_out=10)}))
    assert bill.add("b", Tokens(text_out=100)) is None
    assert bill.add("a", Tokens(text_out=100)) == pytest.approx(0.001)
    assert bill.cost_usd == pytest.approx(0.001)
    assert bill.tokens == Tokens(text_out=200)


def test_more_cached_than_given_is_never_a_refund() -> None:
    prices = Prices({"a": Price(text_in=10, cached_text_in=1)})
    assert prices.cost("a", Tokens(text_in=5, cached_text_in=1000)) == pytest.approx(0.001)


def test_a_wrong_price_file_names_itself_and_the_field(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"m": {"text_in": -1}}')
    with pytest.raises(ValueError, match=r"prices\.json: m\.text_in"):
        pricing.load(file)
    file.write_text("not json")
    with pytest.raises(ValueError, match=r"PRICES_FILE .*prices\.json"):
        pricing.load(file)
    with pytest.raises(ValueError, match=r"PRICES_FILE .*nowhere"):
        pricing.load(tmp_path / "nowhere")
