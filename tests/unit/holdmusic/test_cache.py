"""The cache on disk: whole files or none, bounded, and safe from what others leave there."""

import pathlib

import pytest
from hypothesis import given, strategies as st

from services.holdmusic.cache import SUFFIX, Cache, Version

pytestmark = pytest.mark.unit

A = Version("a.mp3", "e1", "pcmu")


def cache(folder: pathlib.Path, limit: int = 1_000_000) -> Cache:
    made = Cache(folder, limit)
    made.open()
    return made


def test_what_was_saved_is_found_by_the_next_process(tmp_path: pathlib.Path) -> None:
    first = cache(tmp_path)
    first.save(A, b"music\n" * 100)
    again = cache(tmp_path)
    assert again.versions == [A]
    assert again.load(A) == b"music\n" * 100


def test_versions_and_formats_are_apart(tmp_path: pathlib.Path) -> None:
    store = cache(tmp_path)
    for version in (A, Version("a.mp3", "e2", "pcmu"), Version("a.mp3", "e1", "pcm24k")):
        store.save(version, repr(version).encode())
        assert store.load(version) == repr(version).encode()
    assert len(store.versions) == 3


@given(st.text(min_size=1, max_size=512), st.text(max_size=80))
def test_any_key_has_a_file_name_in_the_folder(key: str, etag: str) -> None:
    try:
        key.encode()
        etag.encode()
    except UnicodeEncodeError:
        return
    name = Version(key, etag, "pcmu").file
    assert "/" not in name
    assert len(name) < 100


def test_the_longest_unused_goes_first(tmp_path: pathlib.Path) -> None:
    store = cache(tmp_path, 4000)
    one, two, three = (Version(key, "e", "pcmu") for key in "abc")
    store.save(one, b"x" * 1500)
    store.save(two, b"x" * 1500)
    assert store.load(one) is not None
    store.save(three, b"x" * 1500)
    assert set(store.versions) == {one, three}
    assert store.load(two) is None
    assert len(list(tmp_path.iterdir())) == 2


def test_what_plays_next_is_kept_however_large_it_is(tmp_path: pathlib.Path) -> None:
    store = cache(tmp_path, 1000)
    store.save(A, b"x" * 5000)
    assert store.load(A) == b"x" * 5000


def test_broken_and_foreign_files_do_no_harm(tmp_path: pathlib.Path) -> None:
    store = cache(tmp_path)
    store.save(A, b"music" * 100)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    (tmp_path / f"junk{SUFFIX}").write_bytes(b"\0" * 100)
    (tmp_path / f"empty{SUFFIX}").write_bytes(b"")
    (tmp_path / f"renamed{SUFFIX}").write_bytes(whole)
    (tmp_path / "notes.txt").write_text("not ours")
    assert cache(tmp_path).versions == [A]
    assert {one.name for one in tmp_path.iterdir()} == {file.name, "notes.txt"}

    file.write_bytes(whole[:-10])  # a full disk
    assert cache(tmp_path).versions == []
    assert store.load(A) != b"music" * 100


def test_a_file_that_vanished_is_forgotten(tmp_path: pathlib.Path) -> None:
    store = cache(tmp_path)
    store.save(A, b"music")
    for file in tmp_path.iterdir():
        file.unlink()
    assert store.load(A) is None
    assert store.versions == []
    store.remove(A)
