"""Whole files whole, rows exact."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.run.files import JsonLines, write_atomic, write_json, write_text
from dpo_lab.run.read import read_rows


def test_a_crash_between_write_and_replace_leaves_the_old_file(workplace, root):
    """A real one: the process ends in the middle, with no chance to tidy up."""
    target = workplace / "run.json"
    write_text(target, "old")
    code = (
        "import os, sys, pathlib; from dpo_lab.run.files import write_atomic\n"
        "write_atomic(pathlib.Path(sys.argv[1]), lambda file: (file.write(b'half'), file.flush(), os._exit(9)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=root, check=False)
    assert done.returncode == 9
    assert target.read_text() == "old"


def test_an_exception_leaves_the_old_file_and_nothing_beside_it(workplace):
    target = workplace / "run.json"
    write_text(target, "old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomic(target, fail)
    assert target.read_text() == "old"
    assert [path.name for path in workplace.iterdir()] == ["run.json"]


def test_json_has_no_word_for_infinity(workplace):
    write_json(workplace / "a.json", {"a": [math.inf, 1.5], "b": "ä\ud800"})
    assert json.loads((workplace / "a.json").read_text()) == {"a": [None, 1.5], "b": "ä\ud800"}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_bit_for_bit(tmp_path_factory, value: float):
    rows = JsonLines(tmp_path_factory.mktemp("rows") / "metrics.jsonl")
    rows.append({"step": 1, "x": value})
    rows.close()
    (row,) = read_rows(rows.path)
    assert row["x"].hex() == value.hex()


def test_keys_stand_in_one_order(workplace):
    rows = JsonLines(workplace / "metrics.jsonl")
    rows.append({"train/loss": 0.5, "epoch": 0, "a": 1, "step": 2, "examples_seen": 8})
    rows.close()
    assert rows.path.read_text() == '{"step": 2, "epoch": 0, "examples_seen": 8, "a": 1, "train/loss": 0.5}\n'


def test_not_finite_is_null_and_counted(workplace):
    rows = JsonLines(workplace / "metrics.jsonl")
    rows.append({"step": 1, "x": math.nan, "y": -math.inf})
    rows.close()
    assert rows.num_non_finite == 2
    assert rows.path.read_text() == '{"step": 1, "x": null, "y": null}\n'
    assert math.isnan(read_rows(rows.path)[0]["x"])


def test_what_is_no_python_number_is_refused(workplace):
    import numpy as np

    rows = JsonLines(workplace / "metrics.jsonl")
    with pytest.raises(TypeError, match=r"train/loss is a float64"):
        rows.append({"step": 1, "train/loss": np.float64(1.0)})


def test_rows_are_seen_after_flush_and_kept_by_a_second_opening(workplace):
    first = JsonLines(workplace / "metrics.jsonl")
    first.append({"step": 1})
    first.flush()
    assert read_rows(first.path) == [{"step": 1}]
    first.close()
    first.close()
    second = JsonLines(first.path)
    second.append({"step": 2})
    second.close()
    assert read_rows(first.path) == [{"step": 1}, {"step": 2}]
