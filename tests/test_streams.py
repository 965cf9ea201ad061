"""What each stream of random numbers gave is in run.json, and only what a seed really moves differs."""

from pathlib import Path

import pytest

from dpo_lab.data.report import DataReport
from dpo_lab.data.row_fingerprint import changed_rows, row_fingerprints
from dpo_lab.data.source import DataSource
from dpo_lab.report.seed_streams import seed_streams_section
from dpo_lab.report.study import read_study
from dpo_lab.run import Run, read_run
from dpo_lab.run.fingerprints import read_fingerprints
from dpo_lab.types import Example
from tests.small import SMALL, run_train

FRESH = (
    *(knob for knob in SMALL if not knob.startswith("start.")),
    *("start=none", "trainer.max_steps=2", "reference=uniform", "samples.num=2"),
)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("streams"))
        return read_run(run_train(*FRESH).path.absolute())


def changed(one: Run, other: Run) -> set[str]:
    streams = [run.info["streams"] for run in (one, other)]
    assert streams[0].keys() == streams[1].keys() == {"order", "windows", "dropout", "init", "sampling"}
    return {name for name in streams[0] if streams[0][name] != streams[1][name]}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seeds.order=5", "seeds.dropout=5"], {"order", "windows"}),  # nothing is dropped, and the loss draws nothing
        (["seeds.init=5", "samples.num=0"], {"init", "sampling"}),  # no sample is told as well
        (["seeds.sampling=5"], {"sampling"}),
    ],
)
def test_only_what_a_stream_gave_differs(first: Run, overrides: list[str], expected: set[str]):
    assert changed(first, run_train(*FRESH, *overrides)) == expected
    assert first.info["streams"]["dropout"] is None


def test_a_window_of_all_items_holds_the_same_in_another_order():
    knobs = (*FRESH, "trainer.global_batch_size=40")
    assert changed(run_train(*knobs), run_train(*knobs, "seeds.order=5")) == {"order"}
    report = seed_streams_section(read_study([Path("runs")]))
    told = {str(row[0]).partition(":")[0]: row[1] for row in report.tables[0].rows}
    assert str(told["order"]).startswith("changed inside of steps alone")
    assert (told["init"], told["dropout"]) == ("was held fixed", "could not change: nothing was drawn from it")


def test_dropout_and_random_subsets_are_one_stream():
    knobs = (*FRESH, "samples.num=0")
    runs = [run_train(*knobs, "model.dropout=0.3", f"seeds.dropout={seed}") for seed in (1, 2)]
    assert changed(*runs) == {"dropout"}
    assert [run.info["streams"]["sampling"] for run in runs] == [None, None]
    runs.append(run_train(*knobs, "loss=sampo"))
    assert None not in [run.info["streams"]["dropout"] for run in runs]


def test_fingerprints_name_keys_rows_and_tensors(first: Run):
    found = read_fingerprints(first.path)
    assert {"loss.beta", "optimizer.lr", "seed"} <= found["config"].keys()
    assert [len(found["rows"][name]) for name in ("train", "validation")] == [8 * 40, 8 * 12]
    assert "model.model.embed_tokens.weight" in found["weights"]


def test_rows_that_changed_are_told_from_rows_that_moved():
    """Of rows a, b, c, c there are now c, a, B, c: b is gone, B is new, and nothing else happened."""
    source, moved = source_of("abcc"), source_of("caBc")
    new, num_gone = changed_rows(row_fingerprints(source)["train"], moved.train)
    assert ([(number, row.prompt) for number, row in new], num_gone) == ([(2, "B")], 1)
    assert changed_rows(row_fingerprints(source)["train"], source_of("cbca").train) == ([], 0)


def source_of(prompts: str) -> DataSource:
    rows = [Example(prompt, (" 1", " 2"), ((0, 1),)) for prompt in prompts]
    return DataSource(rows, [], [], 10, "drop", True, DataReport())
