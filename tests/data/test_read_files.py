import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from dpo_lab.data.errors import DataError, RowError
from dpo_lab.data.read_files import read_rows

ROWS = [{"prompt": "a\u2028b", "chosen": 'c "d"\n'}, {"prompt": "é", "chosen": "f,g"}]


def as_jsonl() -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode() + b"\n\n"


def as_csv() -> bytes:
    return 'prompt,chosen\r\na\u2028b,"c ""d""\n"\r\né,"f,g"\r\n'.encode()


def as_parquet() -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


FORMATS: dict[str, tuple[Callable[[], bytes], list[int]]] = {
    "a.jsonl": (as_jsonl, [1, 2]),
    "a.json": (lambda: json.dumps(ROWS, indent=1).encode(), [1, 2]),
    "lines.json": (as_jsonl, [1, 2]),
    "a.csv": (as_csv, [2, 3]),
    "a.parquet": (as_parquet, [1, 2]),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, packed: bool):
    make, numbers = FORMATS[name]
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(make(), mtime=0) if packed else make())
    assert list(read_rows(path)) == list(zip(numbers, ROWS, strict=True))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_byte_order_mark_is_no_text(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + FORMATS[name][0]())
    assert [row for _, row in read_rows(path)] == ROWS


def test_one_object_over_several_lines(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS[0], indent=2))
    assert list(read_rows(path)) == [(1, ROWS[0])]


def test_broken_lines_come_with_their_number(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\n{"a": \n[1]\n{"a": "\xe9"}\n{"a": 2}')
    rows = dict(read_rows(path))
    reasons = {number: row.reason for number, row in rows.items() if isinstance(row, RowError)}
    assert reasons == {3: "broken_json", 4: "not_an_object", 5: "wrong_encoding"}
    assert (rows[1], rows[6]) == ({"a": 1}, {"a": 2})


def test_csv_row_with_another_number_of_cells(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3\n")
    rows = dict(read_rows(path))
    assert rows[2] == {"a": "1", "b": "2"}
    assert isinstance(rows[3], RowError)
    assert rows[3].reason == "wrong_num_cells"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[{", "no JSON"),
        ("a.json", b'[{"a": "\xe9"}]', "line 1 is not UTF-8"),
        ("a.csv", b"a\n\xe9\n", "line 2 is not UTF-8"),
        ("a.csv", b'a\n"b', "no CSV"),
        ("a.csv", b"a,a\n1,2", "twice"),
        ("a.parquet", b"PAR1", "Parquet"),
        ("a.jsonl.gz", b"{}", "gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}' * 99, mtime=0)[:-9], "gzip"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
        ("a.doc", b"x", "ending"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(path))
    assert name in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        read_rows(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="no file"):
        read_rows(tmp_path)
