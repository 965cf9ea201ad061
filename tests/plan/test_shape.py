"""Blocks of a plan: which cells they stand for, and what is no plan."""

from pathlib import Path
from typing import Any

import pytest

from dpo_lab.errors import UserError
from dpo_lab.plan.find import PlanError, find_plan
from dpo_lab.plan.shape import Factor, expand


def values(block: dict[str, Any]) -> list[dict[str, Any]]:
    cells, faults = expand(block)
    assert faults == []
    return [{key: setting.value for key, setting in cell.items()} for cell in cells]


def test_a_grid_is_every_combination_and_a_zip_goes_in_step():
    """2 x 2 cells, the last key fastest."""
    assert values({"grid": {"a": [1, 2], "b": [3, 4]}}) == [
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
    ]
    assert values({"zip": {"a": [1, 2], "b": [3, 4]}}) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]


def test_parts_multiply_in_the_order_of_the_file():
    cells = values({"list": [{"a": 1}, {"a": 2, "b": 3}], "grid": {"seed": [7, 8]}})
    assert cells == [{"a": 1, "seed": 7}, {"a": 1, "seed": 8}, {"a": 2, "b": 3, "seed": 7}, {"a": 2, "b": 3, "seed": 8}]


def test_each_loss_has_its_own_grid():
    """gamma where the loss is simpo and nowhere else: 2 + 1 cells, times 2 seeds."""
    block = {
        "losses": {"ipo": {"grid": {"loss.beta": [0.1, 0.5]}}, "simpo": {"grid": {"loss.gamma": [0.5]}}},
        "grid": {"seed": [1, 2]},
    }
    cells = values(block)
    assert len(cells) == 6
    assert [cell["loss"] for cell in cells if "loss.gamma" in cell] == ["simpo", "simpo"]
    assert values({"losses": {"ipo": {}, "sampo": {}}}) == [{"loss": "ipo"}, {"loss": "sampo"}]


def test_blocks_are_alternatives_and_set_gives_way():
    block = {
        "set": {"a": 0, "b": 0},
        "blocks": [{"grid": {"a": [1, 2]}}, {"set": {"c": 5}, "zip": {"b": [3]}}],
        "grid": {"lr": {"times": [0.5]}},
    }
    assert values(block) == [
        {"a": 1, "b": 0, "lr": Factor(0.5)},
        {"a": 2, "b": 0, "lr": Factor(0.5)},
        {"a": 0, "b": 3, "c": 5, "lr": Factor(0.5)},
    ]


def test_a_key_that_two_parts_set_is_a_fault():
    _, faults = expand({"grid": {"a": [1]}, "blocks": [{"zip": {"a": [2]}}]})
    assert faults == ["blocks[0].zip: a is set by grid already"]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("gird: {a: [1]}", ["gird: no such key; did you mean grid?"]),
        ("grid: {a: 1}", ["grid.a: must be a list or a mapping, got 1"]),
        ("grid: {a: []}\nzip: {}", ["zip: is empty", "grid.a: has no value"]),
        ("grid: {a: {times: []}}", ["grid.a: has no value"]),
        ("grid: {a: {time: [1]}}", ["grid.a.time: no such key; did you mean grid.a.times?", "grid.a.times: missing"]),
        ("zip: {a: [1, 2], b: [1]}", ["zip: all keys need as many values: a has 2, b has 1"]),
        ("losses: {ipo: {grid: {b: []}}}", ["losses.ipo.grid.b: has no value"]),
        ("list: [loss=sft]", ["list.0: must be a mapping, got 'loss=sft'"]),
        ("set: {a: 1}", ["nothing to vary"]),
        ("- grid", ["a plan is a mapping of grid, zip, list, losses, blocks, set, search, about"]),
        ("grid: {a: [1}", ["is no YAML"]),
        (
            "grid: {b: [1]}\nsearch: {space: {a: [1, 2]}, objective: {}, num_trials: 0}",
            ["search.num_trials: must be greater than 0"],
        ),
        (
            "grid: {b: [1]}\nsearch: {space: {a: {low: 2, high: 1}, c: []}, objective: {}, num_trials: 1}",
            [
                "search.objective: is empty",
                "search.space.a: low must be below high",
                "search.space.c: has no value",
                "grid:",
            ],
        ),
    ],
)
def test_a_file_that_is_no_plan_is_told_with_all_its_faults(text: str, faults: list[str], tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(PlanError) as raised:
        find_plan(str(tmp_path / "mine.yaml"), [])
    said = str(raised.value).splitlines()
    assert said[0].startswith(f"{tmp_path / 'mine.yaml'}: {len(faults)} fault")
    assert len(said) == len(faults) + 1
    for line, fault in zip(said[1:], faults, strict=True):
        assert line.strip().startswith(fault)


def test_a_name_finds_its_file_and_a_wrong_one_the_nearest(tmp_path: Path):
    for folder in ("mine", "shipped"):
        (tmp_path / folder / "sweep").mkdir(parents=True)
        (tmp_path / folder / "sweep" / "betas.yaml").write_text(f"about: {folder}\ngrid: {{loss.beta: [1]}}")
    plan = find_plan("betas", [tmp_path / "mine", tmp_path / "shipped"])
    assert (plan.name, plan.about) == ("betas", "mine")
    with pytest.raises(UserError, match=r"no plan beta \(looked in .*did you mean betas\?"):
        find_plan("beta", [tmp_path / "mine"])
