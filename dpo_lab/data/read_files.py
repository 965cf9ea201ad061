"""Rows of one local file: JSON lines, JSON, CSV, Parquet, each also gzipped."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpo_lab.data.errors import DataError, RowError

Rows = Iterator[tuple[int, dict[str, Any] | RowError]]
"""(number of the row as an editor or a spreadsheet counts it, its values or what is wrong with it)."""


def read_rows(path: Path) -> Rows:
    """Rows of the file at `path`, in order; a row that cannot be read comes as a `RowError`.

    The format follows the name: ``.jsonl``, ``.ndjson``, ``.json`` (a list of objects, or one object a line),
    ``.csv``, ``.parquet``, each also with ``.gz`` behind it. Text is UTF-8, with or without a byte order mark.

    Raises:
        DataError: if the file is missing, is no file, has another ending, or cannot be read as a whole.
    """
    ending = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    reader = _READERS.get(ending.lower().removesuffix(".gz"))
    if not path.exists():
        raise DataError(f"{path} does not exist (looked for {path.absolute()}). Correct data.path.")
    if not path.is_file():
        raise DataError(f"{path} is no file. Name files: data.path=[a.jsonl,b.jsonl]")
    if reader is None:
        raise DataError(f"{path} has an ending that is not known. Known: {', '.join(_READERS)}, each also .gz")
    return reader(_read_bytes(path), path)


def has_data_ending(name: str) -> bool:
    """Whether `name` ends as a file of data does."""
    return name.lower().removesuffix(".gz").endswith(tuple(_READERS))


def _read_bytes(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is no whole gzip file ({error}). Fetch or pack it again.") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16. Save it as UTF-8.")
    return content.removeprefix(b"\xef\xbb\xbf")


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line} is not UTF-8 (byte {content[error.start]:#04x}). Save it as UTF-8."
        ) from error


def _read_jsonl(content: bytes, path: Path) -> Rows:
    # Split on bytes: str.splitlines would cut a text at U+2028, which JSON allows inside of a string.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, _parse_line(line)


def _parse_line(line: bytes) -> dict[str, Any] | RowError:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return RowError("wrong_encoding", None, f"byte {line[error.start]:#04x} at {error.start} is not UTF-8")
    except (json.JSONDecodeError, RecursionError) as error:
        return RowError("broken_json", None, f"no JSON: {error}")
    return _check_object(value)


def _check_object(value: Any) -> dict[str, Any] | RowError:
    if isinstance(value, dict):
        return value
    return RowError("not_an_object", None, f"a {type(value).__name__} where an object {{...}} belongs")


def _read_json(content: bytes, path: Path) -> Rows:
    if not content.lstrip().startswith(b"["):
        yield from _read_json_objects(content, path)
        return
    try:
        values = json.loads(_decode(content, path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}. Correct it, or write one object a line (.jsonl).") from error
    for number, value in enumerate(values, start=1):
        yield number, _check_object(value)


def _read_json_objects(content: bytes, path: Path) -> Rows:
    """One object over several lines, or JSON lines."""
    try:
        whole = json.loads(content.decode())
    except ValueError:
        yield from _read_jsonl(content, path)
    else:
        yield 1, _check_object(whole)


def _read_csv(content: bytes, path: Path) -> Rows:
    # A cell may hold a whole conversation; the module's own limit is 128 KiB.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(_decode(content, path), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"{path} names a column twice: {', '.join(header)}. Rename one.")
        for number, cells in enumerate(reader, start=2):
            if cells and len(cells) != len(header):
                what = f"{len(cells)} cells under {len(header)} columns"
                yield number, RowError("wrong_num_cells", None, what)
            elif cells:
                yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is no CSV: {error}. Check its quotes.") from error


def _read_parquet(content: bytes, path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no whole Parquet file: {error}. Fetch or write it again.") from error
    number = 0
    for batch in table.to_batches():
        for values in batch.to_pylist():
            number += 1
            yield number, values


_READERS: dict[str, Callable[[bytes, Path], Rows]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
