"""Whatever bytes a file holds, a reader gives rows or says what is wrong, and never another text than stands there."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpo_lab.data.errors import DataError, RowError
from dpo_lab.data.files import files
from dpo_lab.data.read_files import read_rows
from dpo_lab.types import Example
from tests.data.bad_inputs import REFUSED

NAMES = ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz")
FEW = settings(max_examples=60)

# Any text that a file can hold: JSON and Parquet have no lone surrogates once they are UTF-8.
texts = st.text(st.characters(codec="utf-8"), max_size=12)
cells = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(["role", "content"]), inner),
    max_leaves=4,
)
COLUMNS = "prompt chosen rejected label response ranked responses scores messages conversations chosen_score x"
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "bot"]), "content": texts | st.none()}),
    max_size=3,
)
# Likely to be read, so that what is read can be compared; and likely to be refused.
words = texts.filter(str.strip)
pairs = st.fixed_dictionaries(dict.fromkeys(("prompt", "chosen", "rejected"), words))
chats = words.flatmap(
    lambda text: st.fixed_dictionaries(
        {"prompt": st.just([{"role": "user", "content": text}]), "chosen": words, "rejected": words | messages}
    )
)
odd = st.dictionaries(st.sampled_from(COLUMNS.split()), cells | messages, max_size=5)
rows = pairs | chats | odd


def read(name: str, content: bytes) -> list[Example]:
    """Examples; none where the file is refused as a whole. Any other exception than ours gets through."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return files(path=str(path), on_problem="drop", validation_fraction=0.0).train
        except DataError:
            return []


def as_csv(header: list[str], records: list[list[str]]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *records])
    return file.getvalue().encode()


def strings_in(value: Any) -> set[str]:
    """Every text inside of a value."""
    if isinstance(value, str):
        return {value}
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {text for part in inside for text in strings_in(part)}


def texts_of(one: Example) -> list[str]:
    return [
        text
        for part in (one.prompt, *one.responses)
        for text in ([part] if isinstance(part, str) else [message["content"] for message in part])
    ]


@given(st.sampled_from(NAMES), st.binary(max_size=80))
@example("a.csv", b'"')
@example("a.json", b"[1")
@example("a.jsonl", b'{"prompt": 1e999, "chosen": -0, "rejected": NaN}')
def test_any_bytes(name: str, content: bytes):
    read(name, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


@FEW
@given(st.sampled_from(sorted(REFUSED)), st.integers(0, 200), st.binary(max_size=3))
def test_files_with_a_few_bytes_changed(case: str, place: int, instead: bytes):
    bad = REFUSED[case]
    read(bad.name, bad.content[:place] + instead + bad.content[place + 1 :])


@given(st.lists(rows, min_size=1, max_size=3), st.booleans())
def test_any_json(values: list[dict[str, Any]], is_list: bool):
    """Each text of each example stands in the file as it is, but for the transcripts that are cut in two."""
    content = json.dumps(values) if is_list else "\n".join(map(json.dumps, values))
    examples = read("a.json" if is_list else "a.jsonl", content.encode())
    there = strings_in(values)
    assert all(text in there for one in examples for text in texts_of(one))


@given(st.lists(st.lists(texts, min_size=3, max_size=3), min_size=1, max_size=4))
def test_csv_gives_back_what_was_written(records: list[list[str]]):
    header = ["prompt", "chosen", "rejected"]
    for one in read("a.csv", as_csv(header, records)):
        assert [one.prompt, *one.responses] in records


@FEW
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4))
def test_every_format_reads_the_same_texts(records: list[tuple[str, str, str]]):
    """Rows as they are, before any is judged: JSON lines, a JSON list, Parquet."""
    values = [dict(zip(("prompt", "chosen", "rejected"), record, strict=True)) for record in records]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), sink)
    contents = {
        "a.jsonl": "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode(),
        "a.json": json.dumps(values).encode(),
        "a.parquet": sink.getvalue().to_pybytes(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            path = Path(folder) / name
            path.write_bytes(content)
            assert [row for _, row in read_rows(path)] == values


@FEW
@given(st.lists(st.binary(max_size=6), min_size=1, max_size=3), st.lists(texts, min_size=3, max_size=3))
def test_parquet_strings_of_any_bytes(chosen: list[bytes], others: list[str]):
    """Bytes that are no UTF-8 in a column of strings: that row is refused, the others are read as they stand."""
    num = len(chosen)
    offsets = [sum(map(len, chosen[:index])) for index in range(num + 1)]
    buffers = [None, pyarrow.py_buffer(memoryview(pyarrow.array(offsets, pyarrow.int32()).buffers()[1])), None]
    buffers[2] = pyarrow.py_buffer(b"".join(chosen))
    column = pyarrow.Array.from_buffers(pyarrow.string(), num, buffers)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"prompt": others[:num], "chosen": column}), sink)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        path.write_bytes(sink.getvalue().to_pybytes())
        for (_, row), given_bytes in zip(read_rows(path), chosen, strict=True):
            if isinstance(row, RowError):
                assert row.reason == "wrong_encoding"
                with pytest.raises(UnicodeDecodeError):
                    given_bytes.decode()
            else:
                assert row["chosen"].encode() == given_bytes
