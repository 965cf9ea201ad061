from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.sppo import sppo
from dpo_lab.loss.sppo_soft import sppo_soft
from tests.loss.batch import RATIOS, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact


def test_by_hand():
    """beta 0.5, p 0.9 and 0.6: log-ratios +-0.8 and +-0.2 are sought.

    (0.6, -0.1): 0.2^2 + 0.7^2 = 0.53; (0.1, -0.8): 0.1^2 + 0.6^2 = 0.37. Slopes 2 (0.6 - 0.8), 2 (-0.1 + 0.8),
    2 (0.1 - 0.2), 2 (-0.8 + 0.2), halved by the average over two pairs.
    """
    batch = make_batch()
    probability = torch.tensor([0.9, 0.6], dtype=torch.float64)
    output = sppo_soft(batch.policy, batch.reference, batch.pairs, probability, beta=0.5)
    assert output.loss.tolist() == pytest.approx([0.53, 0.37])
    expected = by_decision([-0.2, 0.7, -0.6, -0.1])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)
    assert output.weight.tolist() == [1.0, 1.0]
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.5 * ratio for ratio in RATIOS])


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_p_1_is_sppo(beta: float, dtype: torch.dtype):
    batch = make_batch(dtype=dtype)
    ours = sppo_soft(batch.policy, batch.reference, batch.pairs, torch.ones(2, dtype=dtype), beta=beta)
    theirs = sppo(batch.policy, batch.reference, batch.pairs, beta=beta)
    relative = 1e-15 if dtype == torch.float64 else 1e-6
    assert_close(ours.loss, theirs.loss, atol=0, rtol=relative)
    assert_close(
        gradient(ours.loss.sum(), batch.policy), gradient(theirs.loss.sum(), batch.policy), atol=0, rtol=relative
    )
    assert_close(ours.reward, theirs.reward, atol=0, rtol=relative)


def test_a_probability_of_the_other_response_is_a_pair_the_other_way_round():
    """p of (chosen, rejected) is 1 - p of (rejected, chosen)."""
    batch = make_batch()
    probability = torch.tensor([0.9, 0.3], dtype=torch.float64)
    one = sppo_soft(batch.policy, batch.reference, batch.pairs, probability).loss
    other = sppo_soft(batch.policy, batch.reference, batch.pairs.flip(1), 1 - probability).loss
    assert_close(one, other, atol=0, rtol=1e-14)


def test_an_even_pair_pulls_both_responses_to_the_reference():
    """p 1/2: a^2 + b^2."""
    batch = make_batch()
    loss = sppo_soft(batch.policy, batch.reference, batch.pairs, torch.full((2,), 0.5).double()).loss
    assert loss.tolist() == pytest.approx([0.36 + 0.01, 0.01 + 0.64])


def test_a_probability_of_another_width_does_not_change_the_type_of_the_loss():
    batch = make_batch(dtype=torch.float32)
    loss = sppo_soft(batch.policy, batch.reference, batch.pairs, torch.tensor([0.9, 0.6]).double(), beta=0.5).loss
    assert loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx([0.53, 0.37], rel=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """p 0.9, as the batch has it."""
    target = Decimal("0.4") / Decimal(beta)
    assert_exact(partial(sppo_soft, beta=beta), lambda w, r: (w - target) ** 2 + (r + target) ** 2)
