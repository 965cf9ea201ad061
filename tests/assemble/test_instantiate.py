"""From a node of the config to an objective."""

import pytest

from dpo_lab.assemble.instantiate import build_objective, instantiate
from dpo_lab.config import TargetError
from dpo_lab.errors import UserError

PACKAGES = ("dpo_lab",)


def test_single_loss_is_an_objective_of_one_term():
    objective = build_objective({"_target_": "dpo_lab.loss.ipo.ipo", "beta": 0.2}, PACKAGES)
    (term,) = objective.terms
    assert (term.name, term.weight) == ("ipo", 1.0)
    assert objective.needs == {"policy", "reference", "pairs"}


def test_mix_is_an_objective_of_its_terms():
    terms = {
        "preference": {"weight": 2.0, "loss": {"_target_": "dpo_lab.loss.hinge.hinge"}},
        "penalty": {"weight": 0.5, "loss": {"_target_": "dpo_lab.loss.sft.sft"}},
    }
    objective = build_objective({"_target_": "dpo_lab.loss.mix.mix", "terms": terms}, PACKAGES)
    assert [(term.name, term.weight) for term in objective.terms] == [("preference", 2.0), ("penalty", 0.5)]
    assert objective.needs == {"policy", "reference", "pairs", "chosen"}


def test_knobs_that_contradict_each_other_are_refused_before_anything_is_loaded():
    node = {"_target_": "dpo_lab.loss.f_dpo.f_dpo", "divergence": "alpha", "alpha": None}
    with pytest.raises(UserError, match="alpha"):
        build_objective(node, PACKAGES)


def test_targets_outside_of_the_packages_are_refused():
    with pytest.raises(TargetError, match="lies outside"):
        instantiate({"_target_": "os.system"}, PACKAGES)


def test_the_framework_gives_only_what_is_asked_for():
    """`uniform` takes a policy and no corpus; what it does not name is not passed."""
    node = {"_target_": "dpo_lab.trainer.TrainerSettings", "zero_gradient_ok": []}
    assert instantiate(node, PACKAGES, corpus=["a"], seed=3).zero_gradient_ok == []
