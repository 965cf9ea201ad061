"""Rows of one local file: JSON lines, JSON, CSV, TSV, plain lines, Parquet, each also gzipped."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

from dpo_lab.data.errors import DataError
from dpo_lab.data.read_json import BYTE_ORDER_MARK, Rows, read_json, read_jsonl
from dpo_lab.data.read_tables import read_csv, read_lines, read_parquet, read_tsv
from dpo_lab.data.sniff import refuse_other_kinds


def read_rows(path: Path) -> Rows:
    """Rows of the file at `path`, in order; a row that cannot be read comes as a `RowError`.

    The format follows the name: ``.jsonl``, ``.ndjson``, ``.json`` (a list of objects, or one object a line),
    ``.csv``, ``.tsv``, ``.txt`` (cells between tabs, no header), ``.parquet``, each also with ``.gz`` behind it. Text
    is UTF-8, with or without a byte order mark.

    Raises:
        DataError: if the file is missing, is no file, has another ending, or cannot be read as a whole.
    """
    ending = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    kind = ending.lower().removesuffix(".gz")
    if not path.exists():
        raise DataError(f"{path} does not exist (looked for {path.absolute()}). Correct data.path.")
    if not path.is_file():
        raise DataError(f"{path} is no file. Name files: data.path=[a.jsonl,b.jsonl]")
    if kind not in _READERS:
        raise DataError(f"{path} has an ending that is not known. Known: {', '.join(_READERS)}, each also .gz")
    content = _read_bytes(path)
    refuse_other_kinds(content, path, is_text=kind != ".parquet")
    return _READERS[kind](content.removeprefix(BYTE_ORDER_MARK), path)


def has_data_ending(name: str) -> bool:
    """Whether `name` ends as a file of data does."""
    return name.lower().removesuffix(".gz").endswith(tuple(_READERS))


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise DataError(f"{path} may not be read: permission denied. Change its permissions, or copy it.") from error
    if path.suffix.lower() != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no whole gzip file ({error}). Fetch or pack it again.") from error


_READERS: dict[str, Callable[[bytes, Path], Rows]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".txt": read_lines,
    ".parquet": read_parquet,
}
