import math
from decimal import Decimal
from functools import partial
from itertools import permutations

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.aot import aot
from dpo_lab.loss.sigmoid import sigmoid
from tests.loss.batch import RATIOS, Batch, by_decision, gradient, log_probs, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

# Three pairs of one-token responses; the rejected ones have log-prob 0, so a margin is the chosen log-prob.
PAIRS = torch.arange(6).reshape(3, 2)


def batch_of(policy: tuple[float, ...], reference: tuple[float, ...]) -> Batch:
    ours, theirs = (log_probs([[each] for value in values for each in (value, 0.0)]) for values in (policy, reference))
    return Batch(ours, theirs, PAIRS)


def test_by_hand():
    """Margins 3, -1, 2 of the policy and 0, 1, -2 of the reference: sorted -1, 2, 3 less -2, 0, 1 is 1, 2, 2.

    beta 0.5: -log sigmoid(0.5) = 0.474077, -log sigmoid(1) = 0.313262 twice. Slopes of the chosen responses
    -0.5 sigmoid(-0.5) = -0.188770 for the pair of margin -1, -0.5 sigmoid(-1) = -0.134471 for the two others.
    """
    batch = batch_of((3.0, -1.0, 2.0), (0.0, 1.0, -2.0))
    output = aot(batch.policy, batch.reference, batch.pairs, beta=0.5)
    assert output.loss.tolist() == pytest.approx([0.474077, 0.313262, 0.313262], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0, 1.0]
    expected = [-0.134471, 0.134471, -0.188770, 0.188770, -0.134471, 0.134471]
    assert gradient(output.loss.sum(), batch.policy)[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert output.reward is not None and output.reward.tolist() == [1.5, 0.0, -1.0, 0.0, 2.0, 0.0]


def test_smoothing_by_hand():
    """0.9 * 0.474077 + 0.1 * 0.974077 = 0.524077; 0.9 * 0.313262 + 0.1 * 1.313262 = 0.413262."""
    batch = batch_of((3.0, -1.0, 2.0), (0.0, 1.0, -2.0))
    loss = aot(batch.policy, batch.reference, batch.pairs, beta=0.5, label_smoothing=0.1).loss
    assert loss.tolist() == pytest.approx([0.524077, 0.413262, 0.413262], abs=1e-6)


def test_sorting_is_the_cheapest_way_to_match():
    """-log sigmoid is convex, so of all ways to match margins one to one, the sorted one costs least."""
    policy, reference = (3.0, -1.0, 2.0), (0.0, 1.0, -2.0)
    batch = batch_of(policy, reference)
    loss = aot(batch.policy, batch.reference, batch.pairs, beta=0.7).loss.sum().item()
    costs = [
        sum(math.log1p(math.exp(-0.7 * (ours - theirs))) for ours, theirs in zip(policy, order, strict=True))
        for order in permutations(reference)
    ]
    assert loss == pytest.approx(min(costs))
    assert max(costs) > min(costs) + 0.1


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("line", [0, 1])
def test_one_pair_alone_is_sigmoid(smoothing: float, line: int):
    batch = make_batch()
    pairs = batch.pairs[line : line + 1]
    ours, theirs = (
        each(batch.policy, batch.reference, pairs, beta=0.7, label_smoothing=smoothing).loss for each in (aot, sigmoid)
    )
    assert_close(ours, theirs, atol=1e-14, rtol=1e-12)
    assert_close(gradient(ours.sum(), batch.policy), gradient(theirs.sum(), batch.policy), atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_one_pair_is_exact(beta: float):
    b, e = Decimal(beta), Decimal("0.2")
    assert_exact(
        partial(aot, beta=beta, label_smoothing=0.2),
        lambda w, r: -(1 - e) * log_sigmoid(b * (w - r)) - e * log_sigmoid(-b * (w - r)),
        steepness=beta,
    )


def test_long_responses_do_not_lose_the_difference_in_float32():
    """1000 decisions of -10.1 against -10.1 - 1e-6 or so: what float32 holds of each is summed without rounding."""
    chosen, rejected = [-10.1] * 1000, [-10.1] * 1000
    reference = log_probs([chosen, rejected], torch.float32)
    nearby = torch.nextafter(reference.token[0, 0], torch.tensor(0.0)).item()
    policy = log_probs([[nearby] * 1000, rejected], torch.float32)
    margin = 1000 * (nearby - reference.token[0, 0].item())
    loss = aot(policy, reference, torch.tensor([[0, 1]]), beta=10.0).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-10 * margin)), rel=1e-6)


def test_ln_2_where_policy_is_reference():
    """Slopes -+ beta / 2 = -+ 0.15, halved by the average over two pairs."""
    batch = make_batch()
    output = aot(batch.policy, batch.policy, batch.pairs, beta=0.3)
    assert output.loss.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-15)
    expected = by_decision([-0.075, 0.075, 0.075, -0.075])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


def test_order_of_pairs_and_ties():
    """Margins 1, 1, 1 against 0, 1, 2: -log sigmoid of 1, 0, -1 whatever the order; the slopes go to pairs in order."""
    batch = batch_of((1.0, 1.0, 1.0), (2.0, 0.0, 1.0))
    for pairs in (PAIRS, PAIRS.flip(0)):
        loss = aot(batch.policy, batch.reference, pairs, beta=1.0).loss
        assert loss.tolist() == pytest.approx([0.313262, 0.693147, 1.313262], abs=1e-6)
        slopes = gradient(loss.sum(), batch.policy)[pairs[:, 0], 0].tolist()
        assert slopes == pytest.approx([-0.268941, -0.5, -0.731059], abs=1e-6)


def test_reward():
    batch = make_batch()
    reward = aot(batch.policy, batch.reference, batch.pairs, beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])


def test_rows_of_another_shape_are_refused():
    batch = make_batch()
    with pytest.raises(ValueError, match="same rows"):
        aot(batch.policy, log_probs([[0.0]] * 4), batch.pairs)
