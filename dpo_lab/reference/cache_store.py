"""Log-probs on disk: under a hash of all that computes them, each found by the hash of its tokens.

A folder holds any number of files of rows, each written once, whole, and named by the hash of its bytes. So a file
that is torn, foreign or half written is known as such, and processes that add rows at one time cannot disturb each
other. Files are mapped into memory, not read: what a run asks for is paged in, and nothing is held twice.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from dpo_lab.whole_files import write_whole

FORMAT = 1
"""Raise whenever the layout of a file, the hash of the tokens or the meaning of a value changes."""

FOLDER = "reference"
SUFFIX = ".rows"
RECORD = "record.json"
ABANDONED_SECONDS = 3600.0
"""A partial file of that age is of a process that was killed."""

_MAGIC = b"dpo_lab\x00"
_HEADER = struct.Struct("<8s32sqqd")  # magic, identity, rows, values, seconds that computing them took
_NAME_LENGTH = 40


def store_identity(parts: Mapping[str, str]) -> str:
    """32 hex digits of a hash over `parts`, which name everything but the tokens that a log-prob depends on."""
    text = json.dumps({"format": str(FORMAT), **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Shard(NamedTuple):
    """One file of rows. `keys[n, 2]` are 128-bit hashes, `lengths[n]` decisions, `values` their log-probs in a row."""

    keys: np.ndarray
    lengths: np.ndarray
    values: np.ndarray
    seconds: float

    @property
    def offsets(self) -> np.ndarray:
        """Where the values of each row begin."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths


@final
class CacheStore:
    """The rows of one identity. What was on disk at the last `load` can be found; `add` writes more."""

    def __init__(self, cache_dir: Path, parts: Mapping[str, str]):
        """`parts` name everything but the tokens that the log-probs depend on; nothing is read or written yet."""
        self.identity = store_identity(parts)
        self.folder = cache_dir / FOLDER / self.identity
        self._parts = dict(parts)
        self._shards: dict[str, Shard] = {}
        self._ignored: set[str] = set()
        self._index()

    @property
    def num_ignored(self) -> int:
        """Files that do not hold what their name says."""
        return len(self._ignored)

    @property
    def num_rows(self) -> int:
        return len(self._keys)

    @property
    def num_bytes(self) -> int:
        """Bytes of keys, lengths and values of all rows."""
        return sum(part.nbytes for shard in self._shards.values() for part in shard[:3])

    @property
    def seconds_per_row(self) -> float:
        """What computing a row took when it was computed, on average."""
        seconds = sum(shard.seconds for shard in self._shards.values())
        return seconds / max(1, sum(len(shard.keys) for shard in self._shards.values()))

    def load(self) -> None:
        """Find what other processes have added since."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name not in self._shards and path.name not in self._ignored:
                shard = _read(path, self.identity)
                if shard is not None:
                    self._shards[path.name] = shard
                elif path.exists():
                    self._ignored.add(path.name)
        self._index()
        record = self.folder / RECORD
        if record.exists():
            os.utime(record)  # tells `prune` that it is used

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Index of the row of each of `keys[n, 2]`, -1 where there is none."""
        last = self.num_rows - 1
        if last < 0:
            return np.full(len(keys), -1, dtype=np.int64)
        at = np.searchsorted(self._keys[:, 0], keys[:, 0])
        while True:  # rows that share the first half of their hash stand side by side
            here = self._keys[np.minimum(at, last)]
            is_half = (at <= last) & (here[:, 0] == keys[:, 0])
            is_other = is_half & (here[:, 1] != keys[:, 1])
            if not is_other.any():
                return np.where(is_half, at, -1)
            at = at + is_other

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Number of decisions of each of `rows`."""
        return self._lengths[rows]

    def take(self, rows: np.ndarray, width: int) -> np.ndarray:
        """float32[n, width]: the log-probs of each of `rows`, 0 behind its end."""
        taken = np.zeros((len(rows), width), dtype=np.float32)
        places = zip(self._shard[rows].tolist(), self._offset[rows].tolist(), self._lengths[rows].tolist(), strict=True)
        for row, (shard, offset, length) in zip(taken, places, strict=True):
            row[:length] = self._values[shard][offset : offset + length]
        return taken

    def rows_hash(self, keys: np.ndarray) -> str:
        """Hash of the log-probs of those of `keys[n, 2]` that are here, in their order."""
        digest, rows = hashlib.sha256(keys.astype("<i8").tobytes()), self.find(keys)
        rows = rows[rows >= 0]
        for shard, first, length in zip(
            self._shard[rows].tolist(), self._offset[rows].tolist(), self._lengths[rows].tolist(), strict=True
        ):
            digest.update(self._values[shard][first : first + length].tobytes())
        return digest.hexdigest()[:16]

    def add(self, keys: np.ndarray, lengths: np.ndarray, values: np.ndarray, seconds: float) -> None:
        """Write rows to disk; `load` finds them. `seconds` is what computing them took."""
        header = _HEADER.pack(_MAGIC, self.identity.encode(), len(keys), len(values), seconds)
        parts = (keys.astype("<i8"), lengths.astype("<i4"), values.astype("<f4"))
        content = header + b"".join(part.tobytes() for part in parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / RECORD).exists():
            write_whole(self.folder / RECORD, json.dumps(self._parts, indent=1).encode())
        write_whole(self.folder / f"{_name_of(content)}{SUFFIX}", content)

    @contextmanager
    def locked(self, on_wait: Callable[[], object]) -> Iterator[None]:
        """Hold the right to compute rows of this identity; `on_wait` is called where another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f".{self.identity}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            for partial in self.folder.glob("*.partial"):
                if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                    partial.unlink(missing_ok=True)
            yield

    def _index(self) -> None:
        """Keys in order, and where the values of each lie."""
        shards = list(self._shards.values())
        keys = np.concatenate([np.zeros((0, 2), np.int64), *(shard.keys for shard in shards)])
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        self._keys = keys[order]
        self._lengths = _joined([shard.lengths for shard in shards], np.int64)[order]
        self._offset = _joined([shard.offsets for shard in shards], np.int64)[order]
        self._values = [shard.values for shard in shards]
        numbers = [np.full(len(shard.keys), number) for number, shard in enumerate(shards)]
        self._shard = _joined(numbers, np.int64)[order]


@dataclass(frozen=True)
class StoreSummary:
    """What is known of a folder without reading its values. `parts` is None where its record cannot be read."""

    folder: Path
    parts: dict[str, str] | None
    num_rows: int
    num_bytes: int
    used_at: float

    @property
    def identity(self) -> str:
        return self.folder.name


def summarize_stores(cache_dir: Path) -> list[StoreSummary]:
    """Every folder of log-probs under `cache_dir`, the one used last first."""
    folders = [path for path in (cache_dir / FOLDER).glob("*") if re.fullmatch(r"[0-9a-f]{32}", path.name)]
    return sorted(map(_summarize, folders), key=lambda summary: -summary.used_at)


def remove_store(summary: StoreSummary) -> None:
    """Delete the folder; whoever has mapped its files keeps them until it ends."""
    gone = summary.folder.with_name(f".{summary.identity}.{os.getpid()}.gone")
    summary.folder.rename(gone)
    shutil.rmtree(gone)


def size(num_bytes: int) -> str:
    """Bytes for people.

    >>> size(900), size(1_240_000)
    ('0.9 kB', '1.2 MB')
    """
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.1f} kB"


def _summarize(folder: Path) -> StoreSummary:
    files = list(folder.glob(f"*{SUFFIX}"))
    record = folder / RECORD
    return StoreSummary(
        folder,
        _read_record(record),
        sum(_count_rows(path, folder.name) for path in files),
        sum(path.stat().st_size for path in files),
        (record if record.exists() else folder).stat().st_mtime,
    )


def _read_record(path: Path) -> dict[str, str] | None:
    try:
        record: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _count_rows(path: Path, identity: str) -> int:
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return 0
    magic, owner, num_rows, _, _ = _HEADER.unpack(header)
    return num_rows if (magic, owner) == (_MAGIC, identity.encode()) else 0


def _read(path: Path, identity: str) -> Shard | None:
    """The rows of a file, mapped; None where it is not what its name says, or of another identity."""
    try:
        content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError):  # it was pruned meanwhile, or is empty
        return None
    if f"{_name_of(content)}{SUFFIX}" != path.name or len(content) < _HEADER.size:
        return None
    magic, owner, num_rows, num_values, seconds = _HEADER.unpack(content[: _HEADER.size].tobytes())
    if (magic, owner) != (_MAGIC, identity.encode()):
        return None
    keys, lengths, values = np.split(content[_HEADER.size :], np.cumsum([16 * num_rows, 4 * num_rows]))
    assert len(values) == 4 * num_values
    return Shard(keys.view("<i8").reshape(-1, 2), lengths.view("<i4"), values.view("<f4"), seconds)


def _name_of(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()[:_NAME_LENGTH]


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts])
