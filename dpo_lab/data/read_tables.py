"""Rows of tables: CSV, TSV and Parquet."""

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_lab.data.errors import DataError, RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.data.read_json import Rows, decode


def read_csv(content: bytes, path: Path, delimiter: str = ",") -> Rows:
    """A header, then a row a record; rows are numbered as a spreadsheet does.

    Raises:
        DataError: where a column is named twice, quotes are broken, or another delimiter was used.
    """
    # A cell may hold a whole conversation; the module's own limit is 128 KiB.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(decode(content, path), newline=""), strict=True, delimiter=delimiter)
    try:
        header = next(reader, [])
        _check_header(header, path, delimiter)
        for number, cells in enumerate(reader, start=2):
            if cells and len(cells) != len(header):
                what = f"{len(cells)} cells under {len(header)} columns"
                yield number, RowError("wrong_num_cells", None, what, excerpt(delimiter.join(cells)))
            elif cells == header:
                yield number, RowError("repeated_header", None, "the header, for the second time", excerpt(str(cells)))
            elif cells:
                yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is no CSV: {error}. Check its quotes.") from error


def read_tsv(content: bytes, path: Path) -> Rows:
    """As `read_csv`, with tabs between the cells."""
    return read_csv(content, path, delimiter="\t")


def read_lines(content: bytes, path: Path) -> Rows:
    """A row a line, its cells between tabs, without a header or quotes: ``column_1``, ``column_2``, ...

    Raises:
        DataError: where the file is not UTF-8.
    """
    for number, line in enumerate(decode(content, path).split("\n"), start=1):
        if line.strip():
            cells = line.removesuffix("\r").split("\t")
            yield number, {f"column_{place}": cell for place, cell in enumerate(cells, start=1)}


def read_parquet(content: bytes, path: Path) -> Rows:
    """A row a record, numbered from 1.

    Raises:
        DataError: where the file is not whole, or names a column twice.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        _check_names(file.schema_arrow.names, path)
        table = file.read()
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: names of columns that are no text
        raise DataError(f"{path} is no whole Parquet file: {error}. Fetch or write it again.") from error
    number = 0
    for batch in table.to_batches():
        for values in _to_rows(batch):
            number += 1
            yield number, values


def _check_header(header: list[str], path: Path, delimiter: str) -> None:
    if header and header[0].lstrip().startswith(("{", "[")):
        raise DataError(f"{path} is JSON by its content. Name it with the ending .jsonl (or .json).")
    _check_names(header, path)
    other = next((mark for mark in (";", "\t", "|", ",") if mark != delimiter and mark in "".join(header)), None)
    if len(header) == 1 and other is not None:
        or_name = ", or name it with the ending .tsv" if other == "\t" else ""
        raise DataError(
            f"{path} has one column, {excerpt(header[0])}: its cells seem to be separated by {other!r} and not by "
            f"{delimiter!r}. Write it with {delimiter!r}{or_name}."
        )


def _check_names(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} names a column twice: {', '.join(twice)}. Rename one.")


def _to_rows(batch: Any) -> Iterator[dict[str, Any] | RowError]:
    """Python values of a batch at once; where one of them cannot be had, row by row."""
    import pyarrow

    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError, pyarrow.ArrowException):  # no UTF-8 in a string, no such year in a date
        for index in range(batch.num_rows):
            yield _to_row(batch.slice(index, 1))


def _to_row(row: Any) -> dict[str, Any] | RowError:
    import pyarrow

    values = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            values[name] = column[0].as_py()
        except UnicodeDecodeError as error:
            what = f"byte {error.object[error.start]:#04x} at {error.start} is not UTF-8"
            return RowError("wrong_encoding", name, what, excerpt(error.object.decode(errors="replace")))
        except (ValueError, OverflowError, pyarrow.ArrowException) as error:
            return RowError("unreadable_value", name, f"a {column.type} that cannot be read: {error}")
    return values
