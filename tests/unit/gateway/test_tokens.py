"""Stream tokens: only what we made, only for its call, only in time."""

import pytest
from hypothesis import given, strategies as st

from services.gateway import tokens
from services.gateway.tokens import Claims, TokenError

pytestmark = pytest.mark.unit

SECRET = b"s" * 32
CALL = "CA" + "0123456789abcdef" * 2
NONCE = "f" * 32
NOW = 1_700_000_000.0

claims = st.builds(
    Claims,
    call=st.from_regex(r"\A(CA|BR)[0-9a-f]{32}\Z"),
    expires=st.integers(0, 10**11),
    nonce=st.from_regex(r"\A[0-9a-f]{32}\Z"),
)


def token(expires: int = int(NOW) + 120) -> str:
    return tokens.mint(SECRET, Claims(CALL, expires, NONCE))


def reason(text: str, *, now: float = NOW, secret: bytes = SECRET) -> str:
    with pytest.raises(TokenError) as caught:
        tokens.read(secret, text, now=now)
    return caught.value.reason


@given(claims)
def test_what_was_minted_is_read(given_claims: Claims) -> None:
    text = tokens.mint(SECRET, given_claims)
    assert tokens.read(SECRET, text, now=given_claims.expires - 0.001) == given_claims
    assert reason(text, now=given_claims.expires) == "expired"


@given(claims)
def test_a_token_needs_no_escape_in_a_path(given_claims: Claims) -> None:
    text = tokens.mint(SECRET, given_claims)
    assert len(text) <= tokens.TOKEN_MAX_CHARS
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


@given(st.data())
def test_no_changed_character_is_accepted(data: st.DataObject) -> None:
    text = token()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda one: one != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    assert reason(changed) in ("malformed", "bad_signature")


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert reason(text) in ("malformed", "bad_signature")


def test_another_secret_is_refused() -> None:
    assert reason(token(), secret=b"t" * 32) == "bad_signature"


def test_a_long_token_is_not_looked_at() -> None:
    assert reason("a" * 10_000 + "." + "b" * 43) == "malformed"


@pytest.mark.parametrize("call", ["", "CA*", "CA" + "g" * 32, "CA" + "A" * 32, ">", "a.b"])
def test_nothing_but_a_call_id_gets_a_token(call: str) -> None:
    with pytest.raises(ValueError, match="call id"):
        tokens.mint(SECRET, Claims(call, 1, NONCE))


@pytest.mark.parametrize("body", ["x", "a.b", "CA*.1." + NONCE, f"{CALL}.-1.{NONCE}", f"{CALL}.1."])
def test_even_a_sealed_body_must_have_the_right_shape(body: str) -> None:
    encoded = tokens._encode(body.encode())
    assert reason(f"{encoded}.{tokens._seal(SECRET, encoded)}") == "malformed"


def test_gateways_of_one_account_derive_the_same_secret() -> None:
    assert tokens.derive_secret("token") == tokens.derive_secret("token")
    assert tokens.derive_secret("token") != tokens.derive_secret("other")
    assert b"token" not in tokens.derive_secret("token")
