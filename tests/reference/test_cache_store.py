"""Rows on disk: found as they were written, and nothing found that was not written whole by this store."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.reference.cache_store import (
    ABANDONED_SECONDS,
    FOLDER,
    CacheStore,
    remove_store,
    store_identity,
    summarize_stores,
)

PARTS = {"reference": "r0", "dtype": "float32"}
KEYS = np.array([[1, 5], [-7, 2], [1, 4]])
LENGTHS = np.array([2, 1, 3])
VALUES = np.array([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0], dtype=np.float32)


def filled(folder: Path) -> CacheStore:
    """Three rows in one file: (1, 5) is -1 -2; (-7, 2) is -3; (1, 4) is -4 -5 -6."""
    store = CacheStore(folder, PARTS)
    store.add(KEYS, LENGTHS, VALUES, seconds=1.5)
    store.load()
    return store


def rows_file(store: CacheStore) -> Path:
    (path,) = store.folder.glob("*.rows")
    return path


def test_rows_by_hand(tmp_path: Path):
    """Keys that share a half are two keys; what was never written is not found."""
    store = filled(tmp_path)
    found = store.find(np.array([[1, 4], [1, 5], [1, 6], [-7, 2], [9, 9], [-9, 9]]))
    assert (found >= 0).tolist() == [True, True, False, True, False, False]
    assert store.lengths(found[[0, 1, 3]]).tolist() == [3, 2, 1]
    assert store.take(found[[0, 3]], 4).tolist() == [[-4.0, -5.0, -6.0, 0.0], [-3.0, 0.0, 0.0, 0.0]]
    assert store.seconds_per_row == 0.5
    assert store.num_rows == 3
    assert store.num_bytes == 3 * 16 + 3 * 4 + 6 * 4


def test_an_empty_store_finds_nothing_and_writes_nothing(tmp_path: Path):
    store = CacheStore(tmp_path, PARTS)
    store.load()
    assert store.find(KEYS).tolist() == [-1, -1, -1]
    assert store.find(KEYS[:0]).tolist() == []
    assert store.seconds_per_row == store.num_bytes == store.num_rows == 0
    assert not (tmp_path / FOLDER).exists()


small_keys = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=12, unique=True)


@settings(max_examples=60)
@given(small_keys, st.integers(1, 4), st.data())
def test_any_rows_in_any_number_of_files(keys: list[tuple[int, int]], num_files: int, data: st.DataObject):
    """Against a dictionary, with as many halves of hashes shared as can be."""
    rows = {key: data.draw(st.lists(st.floats(-9, 0, width=32), min_size=1, max_size=5)) for key in keys}
    with tempfile.TemporaryDirectory() as folder:
        store = CacheStore(Path(folder), PARTS)
        for first in range(num_files):
            part = keys[first::num_files]
            if part:
                values = np.array([value for key in part for value in rows[key]], dtype=np.float32)
                store.add(np.array(part), np.array([len(rows[key]) for key in part]), values, 0.0)
        fresh = CacheStore(Path(folder), PARTS)
        fresh.load()
        asked = data.draw(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=20))
        found = fresh.find(np.array(asked))
        assert (found >= 0).tolist() == [key in rows for key in asked]
        known = [key for key in asked if key in rows]
        taken = fresh.take(found[found >= 0], 6)
        expected = [[*rows[key], *[0.0] * (6 - len(rows[key]))] for key in known]
        assert taken.tolist() == expected


def test_the_same_row_twice_is_one_answer(tmp_path: Path):
    store = filled(tmp_path)
    store.add(KEYS[:1], LENGTHS[:1], VALUES[:2], seconds=0.1)
    store.load()
    assert store.take(store.find(KEYS), 3).tolist() == [[-1.0, -2.0, 0.0], [-3.0, 0.0, 0.0], [-4.0, -5.0, -6.0]]


@pytest.mark.parametrize("damage", ["torn", "a bit", "empty", "foreign", "renamed", "short"])
def test_damaged_files_are_ignored_and_counted(tmp_path: Path, damage: str):
    store = filled(tmp_path)
    path = rows_file(store)
    content = bytearray(path.read_bytes())
    if damage == "torn":
        path.write_bytes(content[:-1])
    elif damage == "a bit":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        path.unlink()
        other = CacheStore(tmp_path, {**PARTS, "reference": "r1"})
        other.add(KEYS, LENGTHS, VALUES, seconds=1.0)
        rows_file(other).rename(store.folder / rows_file(other).name)
    elif damage == "renamed":
        path.rename(path.with_name("x" * 40 + ".rows"))
    else:
        import hashlib

        path.unlink()
        (store.folder / f"{hashlib.sha256(b'no rows').hexdigest()[:40]}.rows").write_bytes(b"no rows")
    fresh = CacheStore(tmp_path, PARTS)
    fresh.load()
    assert fresh.num_ignored == 1
    assert fresh.find(KEYS).tolist() == [-1, -1, -1]
    fresh.add(KEYS, LENGTHS, VALUES, seconds=1.0)
    fresh.load()
    assert (fresh.find(KEYS) >= 0).all()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    store = filled(tmp_path)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        store.add(KEYS + 1, LENGTHS, VALUES, seconds=1.0)
    assert {path.suffix for path in store.folder.iterdir()} == {".rows", ".json"}
    assert len(list(store.folder.glob("*.rows"))) == 1


def test_files_of_a_killed_process_are_cleared_away_later(tmp_path: Path):
    store = filled(tmp_path)
    old, new = (store.folder / f"{name}.rows.1.partial" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - 2 * ABANDONED_SECONDS
    os.utime(old, (long_ago, long_ago))
    with store.locked(lambda: None):
        assert not old.exists() and new.exists()
    store.load()
    assert (store.num_ignored, store.num_rows) == (0, 3)


def test_a_store_that_is_held_says_so(tmp_path: Path):
    """By another open file, as another process has it; the first lets go while the second is told."""
    store, said = CacheStore(tmp_path, PARTS), []
    first = store.locked(lambda: None)
    first.__enter__()

    def on_wait() -> None:
        said.append("waits")
        first.__exit__(None, None, None)

    with CacheStore(tmp_path, PARTS).locked(on_wait):
        assert said == ["waits"]


def test_identity_is_of_every_part():
    """Their order does not count; that the format counts keeps an older layout from being read."""
    one = store_identity(PARTS)
    assert one == store_identity(dict(reversed(PARTS.items())))
    others = [{**PARTS, "dtype": "bfloat16"}, {**PARTS, "reference": "r1"}, {**PARTS, "torch": "2"}, {}]
    assert len({one, *map(store_identity, others)}) == 5


def test_summaries_and_removal(tmp_path: Path):
    assert summarize_stores(tmp_path) == []
    store = filled(tmp_path)
    other = CacheStore(tmp_path, {"reference": "r1"})
    other.add(KEYS[:1], LENGTHS[:1], VALUES[:2], seconds=1.0)
    long_ago = time.time() - 1000
    os.utime(store.folder / "record.json", (long_ago, long_ago))
    (tmp_path / FOLDER / "not a store").mkdir()
    (other.folder / "stray.rows").write_bytes(b"?")
    first, second = summarize_stores(tmp_path)
    assert (first.identity, first.num_rows, first.parts) == (other.identity, 1, {"reference": "r1"})
    assert (second.identity, second.num_rows, second.parts) == (store.identity, 3, PARTS)
    assert second.used_at == pytest.approx(long_ago)
    store.load()
    assert summarize_stores(tmp_path)[0].identity == store.identity, "loading is using"
    remove_store(first)
    assert [summary.identity for summary in summarize_stores(tmp_path)] == [store.identity]
    assert (store.find(KEYS) >= 0).all()


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path):
    store = filled(tmp_path)
    (store.folder / "record.json").write_text("{")
    assert summarize_stores(tmp_path)[0].parts is None
