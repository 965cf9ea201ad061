"""Responses to imitate, of which nothing was judged: how they are read, and what becomes of them beside judged rows."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from dpo_lab.data.check_view import check_view
from dpo_lab.data.errors import DataError, RowError
from dpo_lab.data.files import files
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.preparation import Preparation
from dpo_lab.data.read_row import read_row
from dpo_lab.data.row import Row
from dpo_lab.data.source import DataSource
from dpo_lab.data.view import View
from dpo_lab.prepare.clean import clean
from dpo_lab.prepare.drop_duplicates import drop_duplicates
from dpo_lab.types import Example, Message

SYSTEM: Message = {"role": "system", "content": "Be kind."}
USER: Message = {"role": "user", "content": "Hi"}
ONE: Message = {"role": "assistant", "content": "one"}
TWO: Message = {"role": "assistant", "content": "two"}
TEXT = {"prompt": "Hi", "response": "one"}
PAIR = {"prompt": "Ho", "chosen": "two", "rejected": "three"}
LABELLED = {"prompt": "Hu", "response": "four", "label": False}
NULLS = dict.fromkeys(["chosen", "rejected", "ranked", "responses", "scores", "probability"])


def read(row: dict[str, Any], columns: dict[str, str] | None = None) -> Example:
    return read_row(Row(row, columns or {}), "all", "here")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def kinds(source: DataSource) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Of each training row what is imitated and what is judged."""
    return [(Judgement.of(row).chosen(), Judgement.of(row).judged()) for row in source.train]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (TEXT, None),
        ({**TEXT, "id": 7, "input": "", "score": 3}, None),
        ({**NULLS, **TEXT}, None),
        ({"prompt": "Hi", "completion": "one"}, {"response": "completion"}),
        ({"instruction": "Hi", "input": "", "output": "one"}, {"prompt": "instruction", "response": "output"}),
        ({"instruction": "Hi", "context": "", "response": "one", "category": "qa"}, {"prompt": "instruction"}),
    ],
)
def test_text_to_imitate(row: dict[str, Any], columns: dict[str, str] | None):
    assert read(row, columns) == Example("Hi", ("one",), source="here")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER, ONE, USER, TWO]},
        {"messages": [SYSTEM, USER, ONE, USER, TWO], "prompt": "Hi", "prompt_id": "ab"},
        {"conversations": [SYSTEM, {"from": "human", "value": "Hi"}, ONE, USER, {"from": "gpt", "value": "two"}]},
        {"conversations": None, "response": None, "messages": [SYSTEM, USER, ONE, USER, TWO]},
        {"prompt": [SYSTEM, USER, ONE, USER], "response": "two"},
        {"prompt": [SYSTEM, USER, ONE, USER], "response": [TWO]},
        {"conversations": [SYSTEM, USER, ONE, USER], "response": "two"},
    ],
)
def test_every_form_of_a_chat_to_imitate_gives_the_same_example(row: dict[str, Any]):
    assert read(row) == Example([SYSTEM, USER, ONE, USER], ([TWO],), source="here")


def test_transcript_to_imitate():
    example = read({"messages": "\n\nHuman: Hi\n\nAssistant: a"})
    assert example == Example("\n\nHuman: Hi\n\nAssistant:", (" a",), source="here")


@pytest.mark.parametrize(
    ("found", "is_asked_about"),
    [
        ({"labl": True}, True),
        ({"kto_tag": "false"}, True),
        ({"labels": 0}, True),
        ({"labels": "sports"}, False),
        ({"labels": 3}, False),
        ({"liked": None}, False),
        ({"response_j": "a", "response_k": "b"}, True),
        ({"best": "a"}, False),
        ({"topic": True}, False),
    ],
)
def test_what_looks_like_a_judgement_is_asked_about(found: dict[str, Any], is_asked_about: bool):
    """A name that is like `label` with a value of a label; names like `chosen` and `rejected` beside each other."""
    if not is_asked_about:
        assert read({**TEXT, **found}) == Example("Hi", ("one",), source="here")
        return
    with pytest.raises(RowError, match=r"the nearest is .*To imitate the response whatever") as caught:
        read({**TEXT, **found})
    assert caught.value.reason == "missing_column"


def test_formats_of_files_say_the_same(tmp_path: Path):
    """The last as Parquet holds rows of two schemas: each with all columns, null where a row has none."""
    rows = [TEXT, {"prompt": "Ho", "response": "two"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(TEXT))
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", rows)
    found = [
        files(path=str(tmp_path / name), validation_fraction=0.0)
        for name in ("a.jsonl", "a.json", "a.csv", "a.parquet")
    ]
    assert [(row.prompt, row.responses) for row in found[0].train] == [("Hi", ("one",)), ("Ho", ("two",))]
    assert len({source.fingerprint for source in found}) == 1
    columns = ["prompt", "response", "chosen", "rejected"]
    mixed = [{name: row.get(name) for name in columns} for row in (TEXT, PAIR)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(mixed), tmp_path / "mixed.parquet")
    assert kinds(files(path=str(tmp_path / "mixed.parquet"), validation_fraction=0.0)) == [
        ([0], []),
        ([0], [(0, 1), (1, 0)]),
    ]


def test_what_a_mixed_file_gives_to_which_loss(tmp_path: Path):
    """One row of each kind. Imitated are one and two; judged are two and three, and four; a pair is in one row."""
    source = files(path=write(tmp_path / "a.jsonl", [TEXT, PAIR, LABELLED]), validation_fraction=0.0)
    assert kinds(source) == [([0], []), ([0], [(0, 1), (1, 0)]), ([], [(0, 0)])]
    assert [row.responses for row in source.demonstrations] == [("one",), ("two",)]
    left_out = "1 training row has a response to imitate and no judgement: left out"
    assert left_out in check_view(View(frozenset({"pairs", "chosen"})), source.train, [])
    assert check_view(View(frozenset({"labels"})), source.train, []) == [left_out]
    assert check_view(View(frozenset({"chosen"})), source.train, []) == [
        "1 training row has undesirable responses only: left out"
    ]


def test_validation_and_test_are_split_off_by_the_prompt(tmp_path: Path):
    rows = [{"prompt": f"p{number % 30}", "response": f"r{number}"} for number in range(60)]
    source = files(path=write(tmp_path / "a.jsonl", rows), validation_fraction=0.2, test_fraction=0.2)
    sides = [{str(row.prompt) for row in examples} for examples in source.sets.values()]
    assert [len(side) > 0 for side in sides] == [True] * 3
    assert sum(map(len, sides)) == len(set.union(*sides)) == 30
    assert [row.responses for row in source.demonstrations] == [row.responses for row in source.train]


def test_repeats_are_noted_and_dropped(tmp_path: Path):
    """The second says the same with a blank more; cleaned it is the first. The third answers otherwise."""
    rows = [TEXT, {"prompt": "Hi", "response": "one "}, {"prompt": "Hi", "response": "two"}, TEXT]
    path = write(tmp_path / "a.jsonl", rows)
    assert files(path=path, validation_fraction=0.0).report.counts == {"duplicate_demonstration": 1}
    prepare = Preparation({"clean": clean(), "drop_duplicates": drop_duplicates()})
    source = files(prepare, path=path, validation_fraction=0.0)
    assert [row.responses for row in source.train] == [("one",), ("two",)]
    assert source.report.counts == {"repeated_row": 2}


def test_a_demonstration_may_show_an_image(tmp_path: Path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    part = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}
    rows = [{"messages": [part, ONE], "images": ["a.png"]}, {"prompt": "What?", "response": "one", "image": "a.png"}]
    source = files(path=write(tmp_path / "a.jsonl", rows), validation_fraction=0.0)
    assert [len(row.images) for row in source.train] == [1, 1]
    assert [len(row.images) for row in source.demonstrations] == [1, 1]
    assert Judgement.of(source.train[0]).is_demonstration


def test_columns_that_nothing_reads_are_said(tmp_path: Path):
    rows = [{"instruction": "Hi", "input": "x", "output": "one"}]
    columns = {"prompt": "instruction", "response": "output"}
    source = files(path=write(tmp_path / "a.jsonl", rows), columns=columns, validation_fraction=0.0)
    assert source.report.columns_not_read == ["input"]


def test_labels_cannot_be_swapped_where_nothing_is_judged(tmp_path: Path):
    with pytest.raises(DataError, match=r"no training row is judged \(the first at a.jsonl row 1\)"):
        files(path=write(tmp_path / "a.jsonl", [TEXT]), validation_fraction=0.0, label_noise=0.1)
