import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.data.token_cache import load_or_encode
from dpo_lab.types import Encoded, ImageFile

DATASETS = {
    "train": EncodedDataset(
        [Encoded((1, 10), ((11, 2), (12,)), 1, 3), Encoded((7,), ((8,), (9, 9), (5,))), Encoded((7,), ((8,),))],
        [
            Judgement(((0, 1),), (1 / 3,), (0.1, -0.0), ranking=(0, 1)),
            Judgement(((2, 0), (2, 1)), ranking=(2, 0, 1), is_best_alone=True),
            Judgement(labels=(0,)),
        ],
    ),
    "empty and none": EncodedDataset([Encoded((7,), ((8,),))] * 2, [Judgement((), (), (), (), ()), Judgement()]),
    "validation": EncodedDataset([], []),
    "demonstrations": EncodedDataset([Encoded((1, 10), ((11, 2),), 1)], [Judgement()]),
    "images": EncodedDataset(
        [Encoded((1,), ((2,),), images=(ImageFile("a b.png", "00ff"), ImageFile("é", "")))], [Judgement()]
    ),
}


def build(report: DataReport) -> dict[str, EncodedDataset]:
    report.count("prompt_cut", 2, "a row 1")
    return DATASETS


def refuse(report: DataReport) -> dict[str, EncodedDataset]:
    raise AssertionError("built although it is stored")


def test_second_time_comes_from_disk_and_is_equal(tmp_path: Path):
    first, second = load_or_encode(tmp_path, "f0", build), load_or_encode(tmp_path, "f0", refuse)
    assert (first.hit, second.hit) == (False, True)
    assert second.datasets == first.datasets == DATASETS
    assert second.report == first.report
    assert second.report.counts == {"prompt_cut": 2}
    files = {path.name for path in (tmp_path / "tokens" / "f0").iterdir()}
    assert files == {"tokens.parquet", "record.json", "lock"}


def test_data_sets_without_an_example(tmp_path: Path):
    load_or_encode(tmp_path, "f0", lambda report: {"train": EncodedDataset([], [])})
    assert load_or_encode(tmp_path, "f0", refuse).datasets == {"train": EncodedDataset([], [])}


floats = st.floats(allow_nan=False) | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2])
numbers = st.none() | st.lists(floats, max_size=3).map(tuple)
indices = st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple)


@settings(max_examples=30)
@given(st.lists(st.tuples(numbers, numbers, indices, indices, st.booleans()), max_size=4))
def test_judgements_come_back_bit_by_bit(parts: list[tuple[Any, ...]]):
    judgements = [Judgement((), *part) for part in parts]
    datasets = {"train": EncodedDataset([Encoded((1,), ((2,),))] * len(parts), judgements)}
    with tempfile.TemporaryDirectory() as folder:
        load_or_encode(folder, "f0", lambda report: datasets)
        stored = load_or_encode(folder, "f0", refuse).datasets["train"]
    # repr tells -0.0 from 0.0 and None from ().
    assert repr(stored.judgements) == repr(judgements)


def test_tokens_of_an_older_format_are_built_anew(tmp_path: Path):
    load_or_encode(tmp_path, "f0", build)
    record = tmp_path / "tokens" / "f0" / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "format": 1}))
    assert not load_or_encode(tmp_path, "f0", build).hit


def test_other_fingerprint_is_built(tmp_path: Path):
    load_or_encode(tmp_path, "f0", build)
    assert not load_or_encode(tmp_path, "f1", build).hit


@pytest.mark.parametrize("damage", ["torn tokens", "torn record", "foreign record", "list record", "no tokens"])
def test_damaged_files_are_built_anew(tmp_path: Path, damage: str):
    load_or_encode(tmp_path, "f0", build)
    tokens, record = (tmp_path / "tokens" / "f0" / name for name in ("tokens.parquet", "record.json"))
    if damage == "torn tokens":
        tokens.write_bytes(tokens.read_bytes()[:-7])
    elif damage == "torn record":
        record.write_bytes(record.read_bytes()[:-7])
    elif damage == "foreign record":
        record.write_text(json.dumps({**json.loads(record.read_text()), "fingerprint": "other"}))
    elif damage == "list record":
        record.write_text("[]")
    else:
        tokens.unlink()
    assert not load_or_encode(tmp_path, "f0", build).hit
    assert load_or_encode(tmp_path, "f0", refuse).datasets == DATASETS


def test_build_that_fails_leaves_nothing_to_trust(tmp_path: Path):
    with pytest.raises(AssertionError):
        load_or_encode(tmp_path, "f0", refuse)
    assert not load_or_encode(tmp_path, "f0", build).hit


def test_fingerprint_is_a_plain_name(tmp_path: Path):
    with pytest.raises(DataError, match="plain name"):
        load_or_encode(tmp_path, "../f0", build)


def slow_build(report: DataReport) -> dict[str, EncodedDataset]:
    time.sleep(0.3)
    return build(report)


def load_in_process(folder: Path, queue: "multiprocessing.Queue[bool]") -> None:
    queue.put(load_or_encode(folder, "f0", slow_build).hit)


def test_of_several_processes_one_builds(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=load_in_process, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    hits = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(hits) == [False, True, True]
