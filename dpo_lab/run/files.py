"""How a run writes: a whole file at once or not at all, and rows that are only ever added."""

import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, final

from dpo_lab.errors import UserError

PARTIAL = ".partial"
_FIRST = ("step", "epoch", "examples_seen")
_FLUSH_SECONDS = 1.0


class WriteError(UserError):
    """A file of a run could not be written: a full disk, a quota, a folder that is gone. `path` is the file."""

    exit_code: ClassVar[int] = 1

    def __init__(self, path: Path, error: OSError) -> None:
        reason = error.strerror or str(error) or type(error).__name__
        super().__init__(
            f"cannot write {path}: {reason}. What was written before is whole: mend it (free space, a quota, "
            "permissions), and the same command goes on from the newest checkpoint"
        )
        self.path = path


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Have `write` fill a file beside `path`, then put it in its place.

    Whoever reads `path`, at whatever moment a crash or a power cut comes, finds the old file whole or the
    new one whole. Whatever `write` raises passes through, and the old file stays.

    Raises:
        WriteError: the disk refuses.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with refusing(path):
            _write_synced(partial, write)
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with refusing(path):
        sync_folder(path.parent)


def _write_synced(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with _Watched(io.FileIO(path, "wb")) as file:
        try:
            write(file)
        # torch.save tells of a full disk as a RuntimeError in words of its own, without the reason.
        except RuntimeError as error:
            raise file.refusal or error from None
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """An `OSError` of the block becomes a `WriteError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(path, error) from error


@final
class _Watched(io.BufferedWriter):
    """A file that remembers why it could not be written to."""

    refusal: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.refusal = error
            raise


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
    write_text(path, json.dumps(finite_or_null(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finite_or_null(value: Any) -> Any:
    """A copy of a plain value that JSON has words for: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cut_lines(path: Path, num_lines: int) -> None:
    """Keep the first `num_lines` lines of a file that rows are added to, and nothing behind them.

    Raises:
        UserError: the file has fewer whole lines.
        WriteError: the disk refuses.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    if len(lines) < num_lines:
        raise UserError(f"{path} has {len(lines)} whole rows, and the checkpoint was made after {num_lines}")
    with refusing(path), path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(sum(len(line) + 1 for line in lines[:num_lines]))
        os.fsync(file.fileno())


@final
class JsonLines:
    """One JSON object a line, only ever added to.

    Numbers are written so that they read back bit for bit. A number that is not finite becomes null and is
    counted in `num_non_finite`: JSON has no word for it. Keys stand in one order, whatever order they come in:
    ``step``, ``epoch``, ``examples_seen``, then the alphabet. At most a second of rows waits in memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        earlier = path.read_text(encoding="utf-8") if path.exists() else ""
        self.num_rows = earlier.count("\n")
        self.num_non_finite = earlier.count(": null")
        with refusing(path):
            self._file = path.open("a", encoding="utf-8")
        self._flushed_at = time.monotonic()

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row.

        Raises:
            TypeError: for a value that is not a Python number, naming its key.
            ValueError: after `close`.
            WriteError: the disk refuses, now or at the `flush` that follows.
        """
        names = [name for name in _FIRST if name in row] + sorted(row.keys() - set(_FIRST))
        numbers = {name: self._number(name, row[name]) for name in names}
        with refusing(self.path):
            self._file.write(json.dumps(numbers, allow_nan=False) + "\n")
        self.num_rows += 1
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Have all rows so far seen by whoever reads the file."""
        with refusing(self.path):
            self._file.flush()
        self._flushed_at = time.monotonic()

    def sync(self) -> None:
        """Have all rows so far survive a power cut."""
        self.flush()
        with refusing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what waits, safe against a power cut. A second call does nothing."""
        if self._file.closed:
            return
        try:
            self.sync()
        finally:
            with refusing(self.path):
                self._file.close()

    def _number(self, name: str, value: float) -> float | None:
        # Exactly these: a subclass (numpy.float64) or a tensor may print otherwise on another version.
        if type(value) not in (int, float, bool):
            raise TypeError(f"{self.path.name}: {name} is a {type(value).__name__}, not a Python number")
        if math.isfinite(value):
            return value
        self.num_non_finite += 1
        return None
