from functools import partial
from typing import Any

import pytest
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.loss import ipo, mix, modified, rpo, sft, sigmoid
from dpo_lab.needs import LossFunction
from tests.loss.batch import gradient, make_batch, total


def terms(preference: float, penalty: float, first: LossFunction = sigmoid) -> dict:
    return {"preference": {"weight": preference, "loss": first}, "penalty": {"weight": penalty, "loss": sft}}


def test_by_hand():
    """Policy = reference, so the preference term is ln 2 = 0.693147; 2 * 0.693147 + 0.5 * 7.5 / 7 = 1.922009."""
    batch = make_batch()
    alike = type(batch)(batch.policy, batch.policy, batch.pairs)
    assert total(mix(terms=terms(2.0, 0.5)), alike).item() == pytest.approx(1.922009, abs=1e-6)


def test_value_and_gradient_are_the_weighted_sum_of_the_terms():
    batch = make_batch()
    first, second = (mix(terms={"only": {"weight": 1.0, "loss": loss}}) for loss in (sigmoid, sft))
    whole, one, other = (total(objective, batch) for objective in (mix(terms=terms(0.7, 3.0)), first, second))
    assert_close(whole, 0.7 * one + 3.0 * other)
    gradients = [gradient(loss, batch.policy) for loss in (whole, one, other)]
    assert_close(gradients[0], 0.7 * gradients[1] + 3.0 * gradients[2])


def test_knobs_of_the_terms_act():
    batch = make_batch()
    near, far = (total(mix(terms=terms(1.0, 1.0, partial(ipo, beta=beta))), batch) for beta in (0.1, 0.2))
    assert near.item() != pytest.approx(far.item())


@pytest.mark.parametrize(
    ("weights", "needs"), [((0.0, 1.0), {"policy", "chosen"}), ((1.0, 0.0), {"policy", "reference", "pairs"})]
)
def test_weight_0_leaves_the_term_and_its_needs_out(weights: tuple[float, float], needs: set[str]):
    objective = mix(terms=terms(*weights))
    assert len(objective.terms) == 1
    assert objective.needs == needs


def test_all_weights_0_is_refused():
    with pytest.raises(UserError, match=r"every weight is 0"):
        mix(terms=terms(0.0, 0.0))


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_out_of_range_is_refused_and_not_left_out(weight: float):
    with pytest.raises(UserError, match=r"loss\.terms\.penalty\.weight: must be a number in \[0, inf\)"):
        mix(terms=terms(1.0, weight))


def test_a_weight_moves_by_hand():
    """0.5 falls by a quarter of 0.4 an update to 0.1; a term that begins with 0 is there from the first one on."""
    objective = mix(
        terms={
            "preference": {"weight": 0.0, "loss": sigmoid, "final_weight": 1.0, "ramp_steps": 2},
            "penalty": {"weight": 0.5, "loss": sft, "final_weight": 0.1, "ramp_steps": 4},
        }
    )
    weights = [[term.weight for term in objective.at(step).terms] for step in (0, 1, 2, 4, 9)]
    assert weights == [pytest.approx(row) for row in ([0, 0.5], [0.5, 0.4], [1, 0.3], [1, 0.1], [1, 0.1])]
    assert objective.needs == {"policy", "reference", "pairs", "chosen"}
    still = mix(terms=terms(1.0, 0.5))
    assert still.at(7) is still


def test_parts_of_a_sum_move_together():
    """rpo is preference + 0.5 nll; from 2 to 4 its parts go from 2 and 1 to 4 and 2."""
    inner: Any = partial(rpo, weight=0.5)
    nested = mix(terms={"inner": {"weight": 2.0, "loss": inner, "final_weight": 4.0, "ramp_steps": 1}})
    assert [[term.weight for term in nested.at(step).terms] for step in (0, 1)] == [[2.0, 1.0], [4.0, 2.0]]


@pytest.mark.parametrize("ramp", [{"final_weight": 1.0}, {"ramp_steps": 3}, {"final_weight": 1.0, "ramp_steps": None}])
def test_half_a_ramp_is_refused(ramp: dict[str, Any]):
    term: Any = {"weight": 1.0, "loss": sft, **ramp}
    with pytest.raises(UserError, match=r"loss\.terms\.penalty: final_weight and ramp_steps go together"):
        mix(terms={"penalty": term})


def test_a_sum_inside_a_sum_gives_its_parts_with_the_product_of_the_weights():
    """2 (1 preference + 0.5 nll) + 3 sft, as the same three terms side by side."""
    inner: Any = partial(rpo, weight=0.5)
    nested = mix(terms={"inner": {"weight": 2.0, "loss": inner}, "nll": {"weight": 3.0, "loss": sft}})
    assert [(term.name, term.weight) for term in nested.terms] == [
        ("inner/preference", 2.0),
        ("inner/nll", 1.0),
        ("nll", 3.0),
    ]
    parts = {term.name.partition("/")[2]: term.loss for term in nested.terms}
    flat = mix(
        terms={
            "a": {"weight": 2.0, "loss": parts["preference"]},
            "b": {"weight": 1.0, "loss": parts["nll"]},
            "c": {"weight": 3.0, "loss": sft},
        }
    )
    batch = make_batch()
    assert total(nested, batch).item() == pytest.approx(total(flat, batch).item())


def test_a_sum_of_one_keeps_its_name():
    inner: Any = partial(modified, base=sigmoid)
    nested = mix(terms={"preference": {"weight": 2.0, "loss": inner}, "nll": {"weight": 3.0, "loss": sft}})
    assert [term.name for term in nested.terms] == ["preference", "nll"]
