import math
from decimal import Decimal
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.loss.bco import bco
from dpo_lab.loss.bco_unpaired import bco_unpaired
from dpo_lab.types import State
from tests.loss.batch import by_decision, gradient, list_batch, log_probs, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

LABELS = torch.tensor([1, 0, 0, -1])


def rows(*ratios: float):
    return log_probs([[ratio] for ratio in ratios]), log_probs([[0.0]] * len(ratios))


def values(state: State | None) -> dict[str, float]:
    assert state is not None
    return {name: value.item() for name, value in state.items()}


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_by_hand():
    """beta 0.5: rewards 3 (desirable), 0 and 1 (undesirable), 5 (not judged). d = (3 + 0.5) / 2 = 1.75.

    -log sigmoid(1.25) = 0.251929, -log sigmoid(1.75) = 0.160224, -log sigmoid(0.75) = 0.386871. Slopes:
    -0.5 * sigmoid(-1.25) = -0.111350, 0.5 * sigmoid(-1.75) = 0.074024, 0.5 * sigmoid(-0.75) = 0.160410.
    """
    policy, reference = rows(6.0, 0.0, 2.0, 10.0)
    output = bco_unpaired(policy, reference, LABELS, {}, beta=0.5)
    assert output.extra["delta"].tolist() == [1.75]
    assert output.loss.tolist() == pytest.approx([0.251929, 0.160224, 0.386871], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0, 1.0]
    slopes = torch.tensor([-0.111350, 0.074024, 0.160410, 0.0], dtype=torch.float64)
    assert_close(gradient(output.loss.sum(), policy)[:, 0], slopes, atol=1e-6, rtol=0)
    assert output.reward is not None and output.reward.tolist() == [3.0, 0.0, 1.0, 5.0]


@pytest.mark.parametrize(("shift", "delta"), [("running_mean", 1.75), ("pooled_mean", 4 / 3), ("none", 0.0)])
def test_what_is_subtracted(shift: str, delta: float):
    """Rewards 3, 0 and 1: the middle of 3 and 0.5; (3 + 0 + 1) / 3; nothing."""
    policy, reference = rows(6.0, 0.0, 2.0, 10.0)
    output = bco_unpaired(policy, reference, LABELS, {}, beta=0.5, shift=shift)
    assert output.loss.tolist() == pytest.approx([softplus(delta - 3), softplus(-delta), softplus(1 - delta)])


@pytest.mark.parametrize(
    ("shift", "deltas"), [("running_mean", (2.0, 1.5, 2.5)), ("pooled_mean", (2.0, 5 / 3, 13 / 4))]
)
def test_a_step_may_have_one_kind_only(shift: str, deltas: tuple[float, float, float]):
    """beta 0.5. Desirable rewards 1 and 3 alone have mean 2. With an undesirable 1: the middle of 2 and 1, or 5 / 3.

    With a desirable 8: the desirable mean is 12 / 3 = 4, the middle of 4 and 1 is 2.5; all four have mean 13 / 4.
    """
    state: State = {}
    steps = [((2.0, 6.0), (1, 1)), ((2.0, 99.0), (0, -1)), ((16.0, 99.0), (1, -1))]
    for (ratios, labels), delta in zip(steps, deltas, strict=True):
        output = bco_unpaired(*rows(*ratios), torch.tensor(labels), state, beta=0.5, shift=shift)
        assert output.extra["delta"].item() == pytest.approx(delta)
        assert output.state is not None
        state = output.state
    expected = {"desirable_sum": 12.0, "desirable_count": 3.0, "undesirable_sum": 1.0, "undesirable_count": 1.0}
    assert values(state) == expected


@pytest.mark.parametrize("shift", ["running_mean", "pooled_mean"])
def test_a_step_without_any_judgement_changes_nothing(shift: str):
    policy, reference = rows(6.0, 2.0)
    output = bco_unpaired(policy, reference, torch.tensor([-1, -1]), {}, shift=shift)
    assert output.loss.shape == (0,)
    assert output.extra["delta"].tolist() == [0.0]
    assert set(values(output.state).values()) == {0.0}


def test_without_shift_the_state_is_neither_read_nor_given():
    batch = make_batch()
    state = {"desirable_sum": torch.tensor(9e9), "desirable_count": torch.tensor(1.0)}
    output = bco_unpaired(batch.policy, batch.reference, LABELS, state, beta=0.5, shift="none")
    assert output.state is None
    assert output.extra == {}
    assert output.loss.max() < 1


def test_pairs_cost_what_their_responses_cost():
    """Each row in one pair: the sum over two responses is `bco` of the pair, at this step and at the next."""
    batch = make_batch()
    labels = torch.tensor([1, 0, 0, 1])
    paired, single = State(), State()
    for policy, reference in ((batch.policy, batch.reference), (batch.reference, batch.policy)):
        of_pairs = bco(policy, reference, batch.pairs, paired, beta=0.7)
        of_rows = bco_unpaired(policy, reference, labels, single, beta=0.7)
        assert_close(of_pairs.loss, of_rows.loss[batch.pairs].sum(1))
        assert_close(gradient(of_pairs.loss.sum(), policy), gradient(of_rows.loss.sum(), policy))
        assert of_pairs.state is not None and of_rows.state is not None
        paired, single = of_pairs.state, of_rows.state


def test_row_order_leaves_no_bit_of_the_state_changed():
    batch = list_batch()
    order = torch.tensor([3, 7, 0, 2, 5, 1, 6, 4])
    shuffled = batch.permuted(order)
    labels, turned = (each.ingredients()["labels"] for each in (batch, shuffled))
    assert isinstance(labels, Tensor) and isinstance(turned, Tensor)
    state = bco_unpaired(batch.policy, batch.reference, labels, {}).state
    assert values(state) == values(bco_unpaired(shuffled.policy, shuffled.reference, turned, {}).state)


@pytest.mark.parametrize("shift", ["running_mean", "pooled_mean", "none"])
def test_ln_2_where_policy_is_reference(shift: str):
    """Slopes -+ beta / 2 = -+ 0.2, averaged over three judged responses."""
    batch = make_batch()
    output = bco_unpaired(batch.policy, batch.policy, LABELS, {}, beta=0.4, shift=shift)
    assert output.loss.tolist() == pytest.approx([math.log(2)] * 3, abs=1e-15)
    expected = by_decision([-0.2 / 3, 0.2 / 3, 0.2 / 3, 0.0])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("shift", ["running_mean", "pooled_mean", "none"])
def test_is_exact(beta: float, shift: str):
    """Two items. Of one response of each kind, both means are the middle, which no slope goes through."""
    b = Decimal(beta)

    def formula(w: Decimal, r: Decimal) -> Decimal:
        d = b * constant((w + r) / 2) if shift != "none" else 0
        return (-log_sigmoid(b * w - d) - log_sigmoid(d - b * r)) / 2

    assert_exact(partial(bco_unpaired, beta=beta, shift=shift), formula, steepness=beta)


def constant(x: Decimal) -> Decimal:
    """x rounded so that the step of a difference does not move it."""
    return x.quantize(Decimal("1e-18"))
