from functools import partial

import pytest
import torch

from dpo_lab.loss import ipo, kto, plackett_luce, rpo, s_dpo, sft, sigmoid, tdpo1
from dpo_lab.needs import INGREDIENTS, IngredientError, Objective, Term, is_composite, read_needs
from dpo_lab.types import LossOutput


def test_needs_are_what_stands_before_the_star():
    assert read_needs(sigmoid) == ("policy", "reference", "pairs")
    assert read_needs(sft) == ("policy", "chosen")


def test_bound_knobs_are_no_needs():
    assert read_needs(partial(ipo, beta=0.2, normalization="mean")) == ("policy", "reference", "pairs")


def test_a_sum_of_losses_is_told_by_its_return_annotation():
    """Also where it is text, as under ``from __future__ import annotations``."""

    def postponed(*, beta: "float" = 0.1) -> "Objective": ...

    assert [is_composite(loss) for loss in (rpo, partial(rpo, beta=0.2), postponed)] == [True] * 3
    assert [is_composite(loss) for loss in (sigmoid, partial(sigmoid, beta=0.2), kto)] == [False] * 3


def test_an_unknown_ingredient_fails_with_the_list():
    def novel(policy, rankings, pair) -> LossOutput: ...

    with pytest.raises(IngredientError, match=r"loss 'novel' asks for rankings, pair, which no batch has") as caught:
        read_needs(novel)
    assert all(f"  {name}: {meaning}" in str(caught.value) for name, meaning in INGREDIENTS.items())


def test_an_unknown_ingredient_of_a_bound_loss_names_the_function():
    def novel(policy, rankings, *, beta) -> LossOutput: ...

    with pytest.raises(IngredientError, match=r"loss 'novel'"):
        read_needs(partial(novel, beta=1.0))


def test_an_objective_needs_what_its_terms_need():
    assert Objective((Term("sft", sft),)).needs == {"policy", "chosen"}
    both = Objective((Term("sigmoid", sigmoid), Term("sft", sft)))
    assert both.needs == {"policy", "reference", "pairs", "chosen"}


def test_a_term_gets_what_it_needs_and_nothing_else():
    seen = []

    def greedy(policy, chosen, *, knob: int = 3):
        seen.append((policy, chosen, knob))
        return LossOutput(torch.zeros(1), torch.ones(1))

    ingredients = dict.fromkeys(INGREDIENTS, "unused") | {"policy": "p", "chosen": "c"}
    Term("greedy", partial(greedy, knob=4))(ingredients)
    assert seen == [("p", "c", 4)]


def test_what_a_loss_declares_shows_through_bound_knobs():
    assert Term("kto", partial(kto, beta=0.2)).whole_batch
    assert not Term("sigmoid", sigmoid).whole_batch
    assert Objective((Term("sigmoid", sigmoid), Term("kto", kto))).whole_batch
    assert Objective((Term("s_dpo", partial(s_dpo, beta=0.2)),)).best_alone
    assert not Objective((Term("s_dpo", s_dpo), Term("plackett_luce", plackett_luce))).best_alone


def test_a_divergence_needs_a_reference():
    assert Objective((Term("tdpo1", tdpo1),)).needs_reference
    assert not Objective((Term("sft", sft),)).needs_reference


def test_a_state_without_the_whole_batch_is_refused():
    def forgetful(policy, state) -> LossOutput: ...

    with pytest.raises(IngredientError, match=r"'forgetful' keeps a state without @whole_batch"):
        read_needs(forgetful)


def test_a_term_gets_its_own_state_and_none_at_first():
    seen = []

    def remembering(policy, state):
        seen.append(state)
        return LossOutput(torch.zeros(1), torch.ones(1), state={"count": torch.ones(())})

    remembering.__dict__["whole_batch"] = True
    objective = Objective((Term("one", remembering), Term("other", remembering)))
    outputs = objective({"policy": "p"})
    objective({"policy": "p"}, {"one": outputs["one"].state or {}})
    assert seen == [{}, {}, {"count": torch.ones(())}, {}]
