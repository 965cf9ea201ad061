"""Trials of a search: what is asked, what is learnt, what survives a kill. Nothing is trained: values are formulas."""

import math
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.plan.search_cells import cell_of, corners, with_typed_search
from dpo_lab.plan.search_shape import Search, read_search
from dpo_lab.plan.shape import Factor
from dpo_lab.plan.study import TrialStudy
from dpo_lab.sweep.record import SweepFolder

ONE: dict[str, Any] = {
    "objective": {"val/score": "maximize"},
    "num_trials": 24,
    "space": {"x": {"low": 0.0, "high": 1.0}},
}


def study(path: Path, **changed: Any) -> TrialStudy:
    return TrialStudy(read_search({**ONE, **changed}), SweepFolder(path))


def run(trials: TrialStudy, size: int = 1, until: int | None = None) -> list[float]:
    """All trials, or the first `until`, whose value is minus the squared distance of x from 0.3; the x of each."""
    while batch := trials.next_batch(size):
        for trial in batch:
            if until is not None and trial.number >= until:
                return [record.params["x"] for record in trials.records]
            trials.tell(trial.number, "complete", [-((trial.params["x"] - 0.3) ** 2)])
    return [record.params["x"] for record in trials.records]


def distance(xs: list[float]) -> float:
    return sum(abs(x - 0.3) for x in xs) / len(xs)


def test_tpe_learns_and_random_does_not(tmp_path: Path):
    """The eight first trials of both are random; of the others those of TPE lie closer to the best."""
    learnt, drawn = run(study(tmp_path / "tpe")), run(study(tmp_path / "random", sampler="random"))
    assert distance(learnt[8:]) < distance(learnt[:8]) / 1.5
    assert distance(learnt[8:]) < distance(drawn[8:]) / 1.5
    best = study(tmp_path / "tpe").best()[0]
    assert abs(best.params["x"] - 0.3) == min(abs(x - 0.3) for x in learnt)


@pytest.mark.parametrize("killed_after", [3, 10, 11])
def test_a_search_that_was_killed_goes_on_as_it_would_have(tmp_path: Path, killed_after: int):
    """Batches of four, killed with one begun: what is asked afterwards is what the search left in peace asks."""
    whole = run(study(tmp_path / "whole"), size=4)
    run(study(tmp_path / "killed"), size=4, until=killed_after)
    again = study(tmp_path / "killed")
    batch = again.next_batch(4)
    assert next(trial.number for trial in batch if trial.ending is None) == killed_after
    assert run(again, size=4) == whole
    assert run(study(tmp_path / "killed"), size=4) == whole


def test_another_seed_asks_other_trials_and_more_trials_go_on(tmp_path: Path):
    first = run(study(tmp_path / "a", num_trials=3))
    assert run(study(tmp_path / "b", num_trials=3, seed=1)) != first
    assert run(study(tmp_path / "a", num_trials=5))[:3] == first


def test_what_failed_is_tried_again_by_the_next_start(tmp_path: Path):
    trials = study(tmp_path, num_trials=2)
    for trial in trials.next_batch(2):
        trials.tell(trial.number, "failed", None, is_final=trial.number == 0)
    assert trials.next_batch(2) == []
    again = study(tmp_path, num_trials=2)
    assert [(trial.number, trial.ending) for trial in again.next_batch(2)] == [(1, None)]
    assert [record.ending for record in again.records] == ["failed", None]
    assert again.best() == []


def test_pareto_front_by_hand(tmp_path: Path):
    """(1, 1) and (2, 3) stay: (1, 3) has a worse second value than (1, 1), and (3, 4) is worse than (2, 3) in both.

    The first is sought high and the second low.
    """
    trials = study(tmp_path, num_trials=4, objective={"val/score": "maximize", "samples/kl": "minimize"})
    values = [(1.0, 1.0), (2.0, 3.0), (1.0, 3.0), (2.0, 4.0)]
    for trial, pair in zip(trials.next_batch(4), values, strict=True):
        trials.tell(trial.number, "complete", pair)
    for found in (trials, study(tmp_path, num_trials=4, objective={"val/score": "maximize", "samples/kl": "minimize"})):
        assert [record.values for record in found.best()] == [[1.0, 1.0], [2.0, 3.0]]
    rows = trials.write_table().read_text().splitlines()
    assert rows[0] == "trial,ending,best,val/score,samples/kl,x"
    assert [row.split(",")[:5] for row in rows[1:3]] == [
        ["0", "complete", "1", "1.0", "1.0"],
        ["1", "complete", "1", "2.0", "3.0"],
    ]
    assert rows[3].split(",")[2] == "0"


def test_median_rule_by_hand(tmp_path: Path):
    """At step 10 the two that ended had 0.5 and 0.7, median 0.6: 0.55 ends, 0.65 goes on; at step 5 none is judged."""
    prune = {"rule": "median", "warmup_trials": 2, "warmup_step": 10}
    trials = study(tmp_path, num_trials=4, prune=prune)
    for trial, steps in zip(trials.next_batch(2), ({5: 0.1, 10: 0.5}, {5: 0.2, 10: 0.7}), strict=True):
        assert trials.report(trial.number, steps) is None
        trials.tell(trial.number, "complete", [steps[10]])
    poor, good = trials.next_batch(2)
    assert trials.report(poor.number, {5: 0.0}) is None
    assert trials.report(poor.number, {5: 0.0, 10: 0.55}) == "val/score 0.55 at step 10: median"
    assert trials.report(good.number, {5: 0.0, 10: 0.65}) is None
    trials.tell(poor.number, "pruned", None)
    again = study(tmp_path, num_trials=4, prune=prune)
    assert [record.ending for record in again.records] == ["complete", "complete", "pruned", None]
    assert again.records[2].steps == {5: 0.0, 10: 0.55}
    assert again.report(good.number, {10: 0.55}) is not None
    again.tell(good.number, "complete", [0.9])
    assert again.best()[0].number == good.number


def test_halving_rule_by_hand(tmp_path: Path):
    """Of three that have come to step 4 one goes on: the third is the worst of three."""
    trials = study(tmp_path, num_trials=3, prune={"rule": "halving", "warmup_step": 4})
    first, second, third = trials.next_batch(3)
    assert trials.report(first.number, {2: 0.9}) is None
    assert trials.report(first.number, {4: 0.9}) is None
    assert trials.report(third.number, {4: 0.1}) is not None
    assert math.isfinite(second.params["x"])


def test_each_loss_searches_what_is_its_own(tmp_path: Path):
    losses = {"sigmoid": {"loss.beta": {"low": 0.01, "high": 1.0, "log": True}}, "simpo": {"loss.gamma": [0.5, 1.5]}}
    space = {
        "optimizer.lr": {"low": 0.1, "high": 10, "log": True, "times": True},
        "k": {"low": 1, "high": 9, "step": 2},
    }
    search = read_search({**ONE, "space": space, "losses": losses})
    trials = TrialStudy(search, SweepFolder(tmp_path))
    cells = [cell_of(trial.params, search) for trial in trials.next_batch(24)]
    assert {cell["loss"].value for cell in cells} == {"sigmoid", "simpo"}
    for cell in cells:
        own = {"sigmoid": "loss.beta", "simpo": "loss.gamma"}[cell["loss"].value]
        assert set(cell) == {"loss", "optimizer.lr", "k", own}
        assert isinstance(cell["optimizer.lr"].value, Factor)
        assert cell["k"].value in (1, 3, 5, 7, 9)
        assert float(f"{cell['optimizer.lr'].value.factor:.6g}") == cell["optimizer.lr"].value.factor
    again = TrialStudy(search, SweepFolder(tmp_path))
    assert [record.params for record in again.records] == [record.params for record in trials.records]


def test_corners_have_every_choice_and_both_ends():
    losses = {"a": {"loss.beta": {"low": 1, "high": 2}}, "b": {"loss.gamma": [5, 6, 7]}}
    search = read_search({**ONE, "space": {"lr": {"low": 0.5, "high": 2, "times": True}}, "losses": losses})
    found = [{key: setting.value for key, setting in cell.items()} for cell in corners(search)]
    assert found == [
        {"loss": "a", "lr": Factor(0.5), "loss.beta": 1},
        {"loss": "a", "lr": Factor(2), "loss.beta": 1},
        {"loss": "a", "lr": Factor(0.5), "loss.beta": 2},
        {"loss": "b", "lr": Factor(0.5), "loss.gamma": 5},
        {"loss": "b", "lr": Factor(2), "loss.gamma": 5},
        {"loss": "b", "lr": Factor(0.5), "loss.gamma": 6},
        {"loss": "b", "lr": Factor(0.5), "loss.gamma": 7},
    ]


def test_what_is_typed_of_a_search_changes_it():
    content = {"search": {"num_trials": 3, "prune": None}, "set": {}}
    typed = ["search.num_trials=9", "seed=1", "search.prune.rule=halving", "search.sampler=random"]
    changed, others = with_typed_search(content, typed)
    assert changed["search"] == {"num_trials": 9, "prune": {"rule": "halving"}, "sampler": "random"}
    assert (others, content["search"]["num_trials"]) == (["seed=1"], 3)
    assert isinstance(read_search({**changed["search"], "objective": {"val/loss": "minimize"}}), Search)
