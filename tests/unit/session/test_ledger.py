"""What was heard of the agent's speech: the accounts of marks, cuts and time."""

import collections
from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from services.session.ledger import (
    ITEMS_LIMIT,
    MARK_EVERY_MS,
    MARKS_LIMIT,
    RUNS_LIMIT,
    Cut,
    Ledger,
)
from shared.audio import FORMATS, PCM24K, PCMU, AudioFormat, FormatName
from shared.messages import Mark

pytestmark = pytest.mark.unit


def speech(duration_ms: float, audio: AudioFormat = PCMU) -> bytes:
    """Bytes that are not silence, each unlike its neighbours."""
    size = int(duration_ms * audio.bytes_per_ms)
    return bytes(1 + place % 251 for place in range(size))


def pieces(out: list[bytes | str]) -> list[bytes]:
    return [one for one in out if isinstance(one, bytes)]


def marks(out: list[bytes | str]) -> list[str]:
    return [one for one in out if isinstance(one, str)]


@dataclass
class Player:
    """An ideal phone: plays in order at real time, and returns marks `delay_s` after playing."""

    audio: AudioFormat
    delay_s: float
    #: What is queued: (end on the line, name of a mark or "").
    queue: collections.deque[tuple[int, str]] = field(default_factory=collections.deque)
    end: int = 0
    played: float = 0.0
    at: float = 0.0
    owed: collections.deque[tuple[float, str]] = field(default_factory=collections.deque)

    def take(self, out: list[bytes | str], now: float) -> None:
        self.advance(now)
        for one in out:
            if isinstance(one, bytes):
                self.end += len(one)
            else:
                self.queue.append((self.end, one))
        self._pass_marks(now)

    def advance(self, now: float) -> None:
        rate = self.audio.bytes_per_ms * 1000
        before, since = self.played, self.at
        self.played = min(float(self.end), self.played + (now - self.at) * rate)
        self.at = now
        while self.queue and self.queue[0][0] <= self.played:
            position, name = self.queue.popleft()
            passed_at = since + max(0.0, position - before) / rate
            self.owed.append((passed_at + self.delay_s, name))

    def _pass_marks(self, now: float) -> None:
        while self.queue and self.queue[0][0] <= self.played:
            _, name = self.queue.popleft()
            self.owed.append((now + self.delay_s, name))

    def returned(self, now: float) -> list[tuple[float, str]]:
        self.advance(now)
        out = []
        while self.owed and self.owed[0][0] <= now:
            out.append(self.owed.popleft())
        return out

    def clear(self) -> None:
        """Twilio: empties the buffer and returns all marks at once."""
        self.owed.extend((self.at, name) for _, name in self.queue)
        self.queue.clear()
        self.end = 0
        self.played = 0.0


# --- by example ----------------------------------------------------------------------------------


def test_a_piece_is_whole_frames_and_never_longer_than_the_distance_of_marks() -> None:
    ledger = Ledger(PCMU)
    sent = pieces(ledger.play("a", speech(1000) + b"12345", 0.0))
    assert sum(map(len, sent)) == 8000
    assert all(len(one) % PCMU.frame_bytes == 0 for one in sent)
    assert max(map(len, sent)) == MARK_EVERY_MS * 8


def test_the_rest_of_a_frame_goes_out_with_the_next_audio() -> None:
    ledger = Ledger(PCMU)
    first = pieces(ledger.play("a", speech(30), 0.0))
    second = pieces(ledger.play("a", speech(30), 0.0))
    assert b"".join(first + second) == speech(30) + speech(30)


def test_an_item_is_padded_with_silence_at_its_end_in_one_piece() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(20), 0.0)
    ledger.play("a", b"123", 0.0)
    assert pieces(ledger.complete("a", 0.0)) == [b"123" + b"\xff" * 157]


def test_pcm_with_half_a_sample_left_is_padded_to_a_frame() -> None:
    ledger = Ledger(PCM24K)
    ledger.play("a", b"123", 0.0)
    assert pieces(ledger.complete("a", 0.0)) == [b"123" + bytes(957)]


def test_an_item_begins_and_ends_with_a_mark() -> None:
    ledger = Ledger(PCMU)
    out = ledger.play("a", speech(60), 0.0) + ledger.complete("a", 0.0)
    assert isinstance(out[0], str)
    assert isinstance(out[-1], str)


def test_the_end_of_an_item_gets_a_mark_of_its_own_when_its_rest_is_shorter_than_a_ms() -> None:
    ledger = Ledger(PCMU)
    out = ledger.play("a", speech(200) + b"123", 0.0) + ledger.complete("a", 0.0)
    names = marks(out)
    assert len(names) == len(set(names))
    assert ledger.returned(names[-1], 1.0) == [("a", 200)]


def test_an_item_that_was_heard_before_it_was_complete_is_told_once_it_is() -> None:
    ledger = Ledger(PCMU)
    names = marks(ledger.play("a", speech(200), 0.0))
    assert ledger.returned(names[-1], 0.2) == []
    names = marks(ledger.complete("a", 1.0))
    assert ledger.returned(names[-1], 1.1) == [("a", 200)]


def test_a_name_fits_into_a_mark_however_long_an_id_is() -> None:
    ledger = Ledger(PCMU)
    out = ledger.play("i" * 5000, speech(400), 0.0)
    assert all(Mark(name=name) for name in marks(out))
    assert len(set(marks(out))) == len(marks(out))


def test_empty_audio_is_nothing() -> None:
    ledger = Ledger(PCMU)
    assert ledger.play("a", b"", 0.0) == []
    assert ledger.complete("a", 0.0) == []
    assert not ledger.unheard(0.0)


def test_completing_twice_says_nothing_the_second_time() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(60), 0.0)
    assert ledger.complete("a", 0.0)
    assert ledger.complete("a", 0.0) == []
    assert ledger.complete("unknown", 0.0) == []


def test_a_cut_counts_by_the_clock_when_no_mark_has_come_back() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(2000), 10.0)
    assert ledger.interrupt(10.5) == [Cut("a", 500, 2000)]


def test_a_cut_counts_from_the_last_mark_that_came_back() -> None:
    ledger = Ledger(PCMU)
    names = marks(ledger.play("a", speech(2000), 10.0))
    ledger.returned(names[1], 10.4)  # 200 ms were played, 200 ms late
    assert ledger.interrupt(10.5) == [Cut("a", 300, 2000)]


def test_a_cut_counts_queued_items_as_unheard() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(1000), 0.0)
    ledger.complete("a", 0.0)
    ledger.play("b", speech(600), 0.0)
    assert ledger.interrupt(0.7) == [Cut("a", 700, 1000), Cut("b", 0, 600)]


def test_an_item_of_less_than_a_frame_is_cut_at_nothing() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", b"12345", 0.0)
    assert ledger.unheard(0.0)
    assert ledger.interrupt(0.1) == [Cut("a", 0, 0)]


def test_an_item_heard_to_its_end_is_not_cut() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(1000), 0.0)
    ledger.complete("a", 0.0)
    assert ledger.interrupt(1.5) == []


def test_an_item_of_which_more_was_to_come_is_cut_where_it_stands() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(1000), 0.0)
    assert ledger.unheard(5.0)
    assert ledger.interrupt(5.0) == [Cut("a", 1000, 1000)]


def test_a_pause_of_the_model_is_no_speech() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(200), 0.0)
    ledger.play("a", speech(1000), 5.0)  # the player was dry for 4.8 s
    assert ledger.interrupt(5.3) == [Cut("a", 500, 1200)]


def test_marks_that_come_back_after_a_cut_change_nothing() -> None:
    ledger = Ledger(PCMU)
    old = marks(ledger.play("a", speech(2000), 0.0))
    ledger.interrupt(0.5)
    ledger.play("b", speech(2000), 1.0)
    for name in old:
        assert ledger.returned(name, 1.1) == []
    assert ledger.interrupt(1.5) == [Cut("b", 500, 2000)]


def test_what_is_left_to_play_is_told_in_ms() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(2000), 0.0)
    assert ledger.unheard_ms(0.5) == 1500
    ledger.interrupt(0.5)
    assert ledger.unheard_ms(0.5) == 0


def test_an_item_that_begins_leaves_nothing_of_the_one_before_behind_it() -> None:
    ledger = Ledger(PCMU)
    ledger.play("a", speech(30), 0.0)
    sent = b"".join(pieces(ledger.play("b", speech(20), 0.0)))
    assert sent == speech(30)[160:] + b"\xff" * 80 + speech(20)


def test_a_phone_that_returns_no_marks_fills_no_memory() -> None:
    ledger = Ledger(PCMU)
    for number in range(3000):
        ledger.play(f"item{number}", speech(100), number * 0.2)
        ledger.complete(f"item{number}", number * 0.2)
    assert len(ledger._items) <= ITEMS_LIMIT
    assert len(ledger._runs) <= RUNS_LIMIT
    assert len(ledger._marks) <= MARKS_LIMIT
    assert ledger.interrupt(2999 * 0.2 + 0.05) == [Cut("item2999", 50, 100)]


def test_a_phone_that_returns_its_marks_leaves_nothing_behind() -> None:
    ledger = Ledger(PCMU)
    for number in range(200):
        now = number * 1.0
        out = ledger.play(f"item{number}", speech(510), now)
        out += ledger.complete(f"item{number}", now)
        for name in marks(out):
            ledger.returned(name, now + 0.6)
    assert not ledger._items
    assert not ledger._marks
    assert not ledger._rest
    assert len(ledger._runs) <= 1  # the last item's padding, at most


# --- by Hypothesis -------------------------------------------------------------------------------

ITEMS = ("a", "b", "c")
STEP = st.one_of(
    st.tuples(st.just("play"), st.sampled_from(ITEMS), st.integers(0, 5000)),
    st.tuples(st.just("complete"), st.sampled_from(ITEMS), st.just(0)),
    st.tuples(st.just("returned"), st.integers(0, 300), st.just(0)),
    st.tuples(st.just("interrupt"), st.just(0), st.just(0)),
    st.tuples(st.just("wait"), st.integers(0, 3000), st.just(0)),
)


class Accounts:
    """What a reader of the ledger's promises would count, beside the ledger itself."""

    def __init__(self, audio: AudioFormat) -> None:
        self.audio = audio
        self.ledger = Ledger(audio)
        self.now = 0.0
        self.given: dict[str, bytes] = collections.defaultdict(bytes)
        self.names: list[str] = []
        self.old: set[str] = set()
        self.open: str | None = None
        self.serial = 0
        self.line = b""

    def do(self, step: tuple[str, str | int, int]) -> None:
        kind, what, size = step
        match kind:
            case "play":
                # Bytes of an item carry its letter, silence is none of them.
                letter = str(what)
                if self.open not in (None, letter):
                    self.check_sent(self.ledger.complete(str(self.open), self.now))
                self.open = letter
                audio = letter.encode() * size
                self.given[letter] += audio
                self.check_sent(self.ledger.play(letter, audio, self.now))
            case "complete":
                self.check_sent(self.ledger.complete(str(what), self.now))
            case "returned":
                if self.names:
                    name = self.names[int(what) % len(self.names)]
                    before = self.ledger._position(self.now)
                    told = self.ledger.returned(name, self.now)
                    if name in self.old:
                        assert told == []
                        assert self.ledger._position(self.now) == before
            case "interrupt":
                self.cut()
            case _:
                self.now += int(what) / 1000
        assert 0 <= self.ledger._position(self.now) <= self.ledger._end == len(self.line)
        assert self.ledger.unheard_ms(self.now) >= 0
        assert len(self.ledger._marks) <= MARKS_LIMIT
        assert len(self.ledger._rest) <= 1

    def check_sent(self, out: list[bytes | str]) -> None:
        for one in out:
            if isinstance(one, bytes):
                assert one
                assert len(one) % self.audio.frame_bytes == 0
                assert len(one) <= MARK_EVERY_MS * self.audio.bytes_per_ms
                self.line += one
            else:
                assert one not in self.names
                self.names.append(one)

    def cut(self) -> None:
        for cut in self.ledger.interrupt(self.now):
            assert 0 <= cut.heard_ms <= cut.sent_ms <= self.audio.ms(len(self.given[cut.item]))
        self.check_line(last=False)
        self.old.update(self.names)
        self.line = b""
        self.given.clear()
        self.open = None

    def check_line(self, *, last: bool) -> None:
        """Every byte given came out, in order; of the open item less than a frame may be kept."""
        for letter, whole in self.given.items():
            out = bytes(byte for byte in self.line if byte == letter.encode()[0])
            assert whole.startswith(out)
            kept = len(whole) - len(out)
            assert kept == 0 or (not last and kept < self.audio.frame_bytes)


@given(st.sampled_from(["pcmu", "pcm24k"]), st.lists(STEP, max_size=40))
def test_in_any_order_every_byte_comes_out_and_no_cut_is_beyond_what_was_sent(
    name: FormatName, steps: list[tuple[str, str | int, int]]
) -> None:
    accounts = Accounts(FORMATS[name])
    for step in steps:
        accounts.do(step)
    for item in ITEMS:
        accounts.check_sent(accounts.ledger.complete(item, accounts.now))
    accounts.check_line(last=True)
    accounts.cut()
    assert accounts.ledger.unheard_ms(accounts.now) == 0


@given(
    st.sampled_from(["pcmu", "pcm24k"]),
    st.integers(0, 400),
    st.lists(
        st.one_of(
            st.tuples(st.just("play"), st.integers(1, 1500)),
            st.tuples(st.just("complete"), st.just(0)),
            st.tuples(st.just("wait"), st.integers(1, 1200)),
            st.tuples(st.just("interrupt"), st.just(0)),
        ),
        max_size=40,
    ),
)
def test_with_an_ideal_player_the_estimate_is_as_good_as_the_delay_of_its_marks(
    name: FormatName, delay_ms: int, steps: list[tuple[str, int]]
) -> None:
    audio = FORMATS[name]
    ledger, player = Ledger(audio), Player(audio, delay_ms / 1000)
    item, now = 0, 0.0
    allowed = (delay_ms + 20) * audio.bytes_per_ms
    for kind, size in steps:
        match kind:
            case "play":
                player.take(ledger.play(f"i{item}", speech(size, audio), now), now)
            case "complete":
                player.take(ledger.complete(f"i{item}", now), now)
                item += 1
            case "interrupt":
                player.advance(now)
                ledger.interrupt(now)
                player.clear()
            case _:
                until = now + size / 1000
                while now < until:
                    now = min(until, now + 0.01)
                    for at, mark in player.returned(now):
                        ledger.returned(mark, at)
                    assert abs(ledger._position(now) - player.played) <= allowed
        player.advance(now)
        assert abs(ledger._position(now) - player.played) <= allowed
