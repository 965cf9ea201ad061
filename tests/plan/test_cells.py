"""From cells to runs: what is typed behind a plan, what is composed and checked, and what is there twice."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.config.source import Source
from dpo_lab.plan.cells import Planned, plan_runs, write_override
from dpo_lab.plan.shape import expand
from tests.config.stub_conf import write_conf

BLOCK: dict[str, Any] = {
    "losses": {
        "sigmoid": {"grid": {"loss.beta": [0.1, 0.5]}},
        "ipo": {"grid": {"loss.normalization": ["sum", "mean"]}},
    },
    "grid": {"optimizer.lr": {"times": [0.5, 1]}, "seed": [1, 2]},
}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(str(write_conf(tmp_path)), "train")


def planned(source: Source, block: dict[str, Any], *overrides: str) -> Planned:
    cells, faults = expand(block)
    assert faults == []
    return plan_runs(cells, overrides, source)


def test_every_cell_is_composed(source: Source):
    """4 cells of losses x 2 learning rates x 2 seeds; multiples of the 0.1 that the config has."""
    found = planned(source, BLOCK)
    assert (len(found.runs), found.num_repeated, found.faults) == (16, 0, [])
    assert found.runs[0].overrides == ("loss=sigmoid", "loss.beta=0.1", "optimizer.lr=0.05", "seed=1")
    last = found.runs[-1]
    assert last.overrides == ("loss=ipo", "loss.normalization=mean", "optimizer.lr=0.1", "seed=2")
    assert (last.config["loss"]["normalization"], last.config["optimizer"]["lr"], last.config["seed"]) == (
        "mean",
        0.1,
        2,
    )
    assert "hydra" not in last.config


def test_what_is_typed_replaces_what_is_planned_and_adds_what_is_not(source: Source):
    found = planned(source, BLOCK, "optimizer.lr=0.3", "seed=7,8", "trainer.max_steps=2")
    assert (len(found.runs), found.num_repeated) == (4 * 2, 4 * 2 * 3)
    assert {run.config["optimizer"]["lr"] for run in found.runs} == {0.3}
    assert [run.config["seed"] for run in found.runs[:3]] == [7, 8, 7]
    assert all(run.overrides[-1] == "trainer.max_steps=2" for run in found.runs)


def test_a_loss_that_is_typed_leaves_its_cells(source: Source):
    found = planned(source, BLOCK, "loss=ipo", "seed=1", "optimizer.lr=1,2")
    assert [run.config["loss"]["normalization"] for run in found.runs] == ["sum", "sum", "mean", "mean"]
    found = planned(source, BLOCK, "loss=igmoid")
    assert found.faults == ["loss=igmoid: no loss of this plan; did you mean sigmoid? its losses: ipo, sigmoid"]
    assert len(planned(source, {"grid": {"seed": [1, 2]}}, "loss=ipo").runs) == 2


def test_what_says_the_same_is_one_run(source: Source):
    """A default that is written out, a whole float, and what never enters an id make no other run."""
    block = {
        "list": [{"loss.beta": 0.1}, {"seed": 0}, {"trainer.micro_batch_size": 4}, {"loss.beta": 1}, {"loss.beta": 1.0}]
    }
    found = planned(source, block)
    assert [run.overrides for run in found.runs] == [("loss.beta=0.1",), ("loss.beta=1",)]
    assert found.num_repeated == 3


def test_all_faults_are_told_at_their_places(source: Source):
    block = {
        "losses": {
            "ipo": {"grid": {"loss.label_smoothing": [0.1], "loss.beta": [-1]}},
            "sigmiod": {"grid": {"loss.beta": [0.1]}},
        },
        "grid": {"sed": [1], "name": ["a b"], "data.path": ["pairs.jsonl"]},
        "blocks": [{"grid": {"model.path": {"times": [2]}}}],
    }
    said = "\n".join(planned(source, block).faults)
    for fault in (
        "losses.ipo.grid: loss.label_smoothing=0.1: ipo does not take label_smoothing",
        "losses.sigmiod: loss=sigmiod: no such loss; did you mean sigmoid?",
        "grid: sed=1: no such key; did you mean seed?",
        "blocks[0].grid: model.path: times multiplies what a run has without it, and that is no number but 'small'",
    ):
        assert fault in said
    sound = {"losses": {"ipo": {"grid": {"loss.beta": [-1]}}}, "grid": {"name": ["a b"], "data.path": ["pairs.jsonl"]}}
    said = "\n".join(planned(source, sound, "trainer.max_steps=0").faults)
    for fault in (
        "losses.ipo.grid: loss.beta: must be greater than 0, got -1",
        "grid: name: must name a folder",
        "grid: data.path: no such file or folder: pairs.jsonl",
        "\ntrainer.max_steps: must be greater than 0 or null, got 0",
    ):
        assert fault in f"\n{said}"


def test_a_typed_override_that_cannot_be_read_is_a_fault(source: Source):
    assert planned(source, BLOCK, "loss.beta").faults[0].startswith("loss.beta: ")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=60)
@given(VALUES)
def test_every_value_survives_the_words_of_the_command_line(value: Any):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(write_override("key", value))
    assert not override.is_sweep_override()
    assert override.value() == value
