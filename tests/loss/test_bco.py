import math
from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.bco import bco
from tests.loss.batch import Batch, by_decision, gradient, log_probs, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid, one_token_pair


def pair(chosen: float, rejected: float) -> Batch:
    return one_token_pair((chosen, rejected))


def test_by_hand():
    """beta 0.5, log-ratios 4 and -2: rewards 2 and -1, d = 0.5. -2 log sigmoid(1.5) = 2 * 0.201413 = 0.402827.

    Slopes: -+ 0.5 * sigmoid(-1.5) = -+ 0.5 * 0.182426 = -+ 0.091213; none through d.
    """
    batch = pair(4.0, -2.0)
    output = bco(batch.policy, batch.reference, batch.pairs, {}, beta=0.5)
    assert output.loss.item() == pytest.approx(0.402827, abs=1e-6)
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx([-0.091213, 0.091213], abs=1e-6)
    assert output.reward is not None and output.reward.tolist() == [2.0, -1.0]
    assert output.extra["delta"].tolist() == [0.5]


def test_state_goes_from_step_to_step():
    """beta 0.5. Step 1: rewards 2 and -1, d = 0.5. Step 2: rewards 3, 4 (chosen) and 0, 1 (rejected).

    The chosen mean is then (2 + 3 + 4) / 3 = 3, the rejected (-1 + 0 + 1) / 3 = 0, d = 1.5. Losses of step 2:
    log(1 + e^-1.5) + log(1 + e^-1.5) = 0.402827 and log(1 + e^-2.5) + log(1 + e^-0.5) = 0.078889 + 0.474077 = 0.552966.
    """
    first = pair(4.0, -2.0)
    state = bco(first.policy, first.reference, first.pairs, {}, beta=0.5).state
    assert state is not None
    assert {name: value.item() for name, value in state.items()} == {
        "chosen_sum": 2.0,
        "chosen_count": 1.0,
        "rejected_sum": -1.0,
        "rejected_count": 1.0,
    }
    second = Batch(log_probs([[6.0], [0.0], [8.0], [2.0]]), log_probs([[0.0]] * 4), torch.tensor([[0, 1], [2, 3]]))
    output = bco(second.policy, second.reference, second.pairs, state, beta=0.5)
    assert output.extra["delta"].tolist() == [1.5]
    assert output.loss.tolist() == pytest.approx([0.402827, 0.552966], abs=1e-6)
    assert output.state is not None
    assert [value.item() for value in output.state.values()] == [9.0, 3.0, 0.0, 3.0]
    assert [value.item() for value in state.values()] == [2.0, 1.0, -1.0, 1.0], "the state given was written to"


def test_state_is_plain_and_free_of_the_graph():
    batch = make_batch(dtype=torch.float32)
    state = bco(batch.policy, batch.reference, batch.pairs, {}).state
    assert state is not None
    for value in state.values():
        assert value.dtype == torch.float64 and value.shape == () and not value.requires_grad


def test_state_in_another_precision_is_cast():
    batch = pair(4.0, -2.0)
    before = {"chosen_sum": 2.0, "chosen_count": 1.0, "rejected_sum": -1.0, "rejected_count": 1.0}
    state = {name: torch.tensor(value, dtype=torch.float32) for name, value in before.items()}
    output = bco(batch.policy, batch.reference, batch.pairs, state, beta=0.5)
    assert output.state is not None and output.state["chosen_sum"].dtype == torch.float64
    assert output.state["chosen_sum"].item() == 4.0


def test_row_order_leaves_no_bit_of_the_state_changed():
    """0.1 + 0.2 + 0.3 rounds otherwise than 0.3 + 0.2 + 0.1."""
    reference = log_probs([[0.0]] * 6)
    rows = [[0.1], [0.7], [0.2], [-0.9], [0.3], [1e-9]]
    pairs = torch.arange(6).reshape(3, 2)
    policy = log_probs(rows)
    state = bco(policy, reference, pairs, {}, beta=1.0).state
    turned = bco(policy, reference, pairs.flip(0), {}, beta=1.0).state
    assert state is not None and turned is not None
    assert all(torch.equal(state[name], turned[name]) for name in state)


def test_without_shift():
    """-log sigmoid(beta a) - log sigmoid(-beta b), as in TRL from 0.29; the state is neither read nor given."""
    batch = pair(4.0, -2.0)
    state = {"chosen_sum": torch.tensor(9e9), "chosen_count": torch.tensor(1.0)}
    output = bco(batch.policy, batch.reference, batch.pairs, state, beta=0.5, shift="none")
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)), abs=1e-12)
    assert output.state is None
    assert output.extra == {}


@pytest.mark.parametrize("shift", ["running_mean", "none"])
def test_2_ln_2_where_policy_is_reference(shift: str):
    """Slopes -+ beta / 2 = -+ 0.2, halved by the average over two pairs."""
    batch = make_batch()
    output = bco(batch.policy, batch.policy, batch.pairs, {}, beta=0.4, shift=shift)
    assert output.loss.tolist() == pytest.approx([2 * math.log(2)] * 2, abs=1e-15)
    expected = by_decision([-0.1, 0.1, 0.1, -0.1])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Of one pair d is the middle of its two rewards, which no slope goes through."""
    b = Decimal(beta)

    def formula(w: Decimal, r: Decimal) -> Decimal:
        d = b * constant((w + r) / 2)
        return -log_sigmoid(b * w - d) - log_sigmoid(d - b * r)

    assert_exact(partial(bco, beta=beta), formula, steepness=beta)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact_without_shift(beta: float):
    b = Decimal(beta)
    loss = partial(bco, beta=beta, shift="none")
    assert_exact(loss, lambda w, r: -log_sigmoid(b * w) - log_sigmoid(-b * r), steepness=beta)


def constant(x: Decimal) -> Decimal:
    """x rounded so that the step of a difference does not move it."""
    return x.quantize(Decimal("1e-18"))


def test_a_row_in_no_pair_has_a_reward_and_no_say_in_the_shift():
    batch = make_batch()
    output = bco(batch.policy, batch.reference, batch.pairs[:1], {}, beta=0.3)
    assert output.extra["delta"].item() == pytest.approx(0.3 * (0.6 - 0.1) / 2)
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.18, -0.03, -0.24, 0.03])
