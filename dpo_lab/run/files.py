"""How a run writes: a whole file at once or not at all, and rows that are only ever added."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, final

PARTIAL = ".partial"
_FIRST = ("step", "epoch", "examples_seen")
_FLUSH_SECONDS = 1.0


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Have `write` fill a file beside `path`, then put it in its place.

    Whoever reads `path`, at whatever moment a crash or a power cut comes, finds the old file whole or the
    new one whole. Whatever `write` raises passes through, and the old file stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, atomically, as UTF-8."""
    # A lone surrogate (half an emoji, an odd file name) must not cost a run its record.
    data = text.encode("utf-8", errors="backslashreplace")
    write_atomic(path, lambda file: file.write(data))


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as indented JSON, atomically; numbers that are not finite become null.

    Raises:
        TypeError: for a value that JSON does not know.
    """
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@final
class JsonLines:
    """One JSON object a line, only ever added to.

    Numbers are written so that they read back bit for bit. A number that is not finite becomes null and is
    counted in `num_non_finite`: JSON has no word for it. Keys stand in one order, whatever order they come in:
    ``step``, ``epoch``, ``examples_seen``, then the alphabet. At most a second of rows waits in memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_rows = 0
        self.num_non_finite = 0
        self._file = path.open("a", encoding="utf-8")
        self._flushed_at = time.monotonic()

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row.

        Raises:
            TypeError: for a value that is not a Python number, naming its key.
            ValueError: after `close`.
        """
        names = [name for name in _FIRST if name in row] + sorted(row.keys() - set(_FIRST))
        numbers = {name: self._number(name, row[name]) for name in names}
        self._file.write(json.dumps(numbers, allow_nan=False) + "\n")
        self.num_rows += 1
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Have all rows so far seen by whoever reads the file."""
        self._file.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Write what waits, safe against a power cut. A second call does nothing."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _number(self, name: str, value: float) -> float | None:
        # Exactly these: a subclass (numpy.float64) or a tensor may print otherwise on another version.
        if type(value) not in (int, float, bool):
            raise TypeError(f"{self.path.name}: {name} is a {type(value).__name__}, not a Python number")
        if math.isfinite(value):
            return value
        self.num_non_finite += 1
        return None
