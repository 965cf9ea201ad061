from collections import Counter
from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.sampo import sampo
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.types import LogProbs, LossOutput
from tests.loss.batch import Batch, gradient, log_probs, make_batch
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def call(batch: Batch, *seeds: int, beta: float = 1.0) -> LossOutput:
    return sampo(batch.policy, batch.reference, batch.pairs, generators(*seeds), beta=beta)


def order(seed: int, length: int) -> list[int]:
    """Tokens of a row of `length` in the order in which they are drawn: by what its generator gives each of them."""
    numbers = torch.rand(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    return sorted(range(length), key=numbers.__getitem__)


def powers(*lengths: int) -> Batch:
    """Token j of every row has log-ratio -2^-j: a sum tells which are in it. Row 0 is in a pair with each other."""
    policy = log_probs([[-(2.0**-index) for index in range(length)] for length in lengths])
    reference = log_probs([[0.0] * length for length in lengths])
    return Batch(policy, reference, torch.tensor([[0, row] for row in range(1, len(lengths))]))


def drawn(batch: Batch, output: LossOutput, row: int) -> set[int]:
    """Tokens of `row` that carry a gradient."""
    return set(gradient(output.loss.sum(), batch.policy)[row].nonzero()[:, 0].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_by_hand(seed: int):
    """Row 1 has one token, so that one of the three of row 0 (0.2, -0.1, 0.5) is drawn: margin that token's + 0.1.

    Row 2 has two (-1.0, 0.2), so that two of the four of row 3 (0.1, 0.4, -0.1, -0.3) are: margin their sum + 0.8.
    """
    batch = make_batch()
    output = call(batch, seed, 90, 91, seed + 50)
    one = (0.2, -0.1, 0.5)[order(seed, 3)[0]]
    two = sum((0.1, 0.4, -0.1, -0.3)[token] for token in order(seed + 50, 4)[:2])
    expected = [float(-log_sigmoid(Decimal(margin))) for margin in (one + 0.1, two + 0.8)]
    assert output.loss.tolist() == pytest.approx(expected)
    assert output.weight.tolist() == [1.0, 1.0]
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([one, -0.1, -0.8, two])
    assert drawn(batch, output, 0) == {order(seed, 3)[0]}
    assert drawn(batch, output, 3) == set(order(seed + 50, 4)[:2])


def test_tokens_that_are_drawn_share_the_slope_of_the_margin():
    """beta 0.5: d/dh = -0.5 sigmoid(-beta h), at each token drawn; nothing at the others."""
    batch = make_batch()
    output = call(batch, 3, 4, 5, 6, beta=0.5)
    slopes = gradient(output.loss.sum(), batch.policy)
    downs = -0.5 * (1 - (-output.loss.detach()).exp())
    assert slopes[0][slopes[0] != 0].tolist() == pytest.approx([downs[0].item()])
    assert slopes[3][slopes[3] != 0].tolist() == pytest.approx([downs[1].item()] * 2)
    assert slopes[2][:2].tolist() == pytest.approx([-downs[1].item()] * 2)


def test_every_subset_is_as_likely_as_any_other():
    """6 subsets of 2 of 4 tokens in 1200 draws: 200 each, standard deviation sqrt(1200 / 6 * 5 / 6) = 12.9."""
    batch = powers(4, 2)
    found = Counter(tuple(sorted(drawn(batch, call(batch, seed, 0), 0))) for seed in range(1200))
    assert len(found) == 6
    assert all(abs(count - 200) < 4 * 12.9 for count in found.values())


def test_a_row_in_several_pairs_has_nested_subsets():
    """Row 0 (5 tokens) against rows of 1, 3 and 4: the first 1, 3 and 4 of one order. Its reward is their mean."""
    batch = powers(5, 1, 3, 4, 5)
    output = call(batch, 11, 0, 0, 0, 0)
    first = order(11, 5)
    sums = [-sum(2.0**-token for token in first[:length]) for length in (1, 3, 4, 5)]
    assert output.reward is not None
    assert output.reward[0].item() == pytest.approx(sum(sums) / 4)
    theirs = [-sum(2.0**-token for token in range(length)) for length in (1, 3, 4, 5)]
    expected = [float(-log_sigmoid(Decimal(a - b))) for a, b in zip(sums, theirs, strict=True)]
    assert output.loss.tolist() == pytest.approx(expected)


def test_a_response_in_no_pair_has_its_whole_reward():
    batch = make_batch().with_pairs(torch.tensor([[0, 1]]))
    reward = call(batch, 0, 1, 2, 3, beta=0.5).reward
    assert reward is not None
    assert reward[2:].tolist() == pytest.approx([0.5 * -0.8, 0.5 * 0.1])


def test_the_draw_depends_on_the_rows_own_generator_and_length_alone():
    """Rows in another order, further rows, wider padding before the end of the row, another partner as short."""
    batch = make_batch()
    alone = call(batch, 7, 8, 9, 10).loss
    turned = torch.tensor([3, 2, 1, 0])
    policy, reference = (LogProbs(part.token[turned], part.mask[turned]) for part in (batch.policy, batch.reference))
    assert_close(call(Batch(policy, reference, 3 - batch.pairs), 10, 9, 8, 7).loss, alone, atol=0, rtol=0)
    # One and three columns of padding before and behind: no row begins where it did.
    policy, reference = (
        LogProbs(torch.nn.functional.pad(part.token, (1, 3), value=9.0), torch.nn.functional.pad(part.mask, (1, 3)))
        for part in (batch.policy, batch.reference)
    )
    assert_close(call(Batch(policy, reference, batch.pairs), 7, 8, 9, 10).loss, alone, atol=1e-15, rtol=0)
    others = call(batch, 7, 108, 109, 10).loss
    assert_close(others, alone, atol=0, rtol=0)
    assert len({call(batch, seed, 8, 9, 10).loss[0].item() for seed in range(20)}) == 3


def test_one_generator_is_drawn_from_in_turn():
    """As many numbers a row as it has tokens: 3, 1, 2, 4."""
    batch = make_batch()
    one = torch.Generator().manual_seed(5)
    loss = sampo(batch.policy, batch.reference, batch.pairs, one, beta=1.0).loss
    spent = torch.Generator().manual_seed(5)
    numbers = torch.rand(10, generator=spent, dtype=torch.float64)
    best = int(numbers[:3].argmin())
    assert loss[0].item() == pytest.approx(float(-log_sigmoid(Decimal((0.2, -0.1, 0.5)[best] + 0.1))))
    two = sum((0.1, 0.4, -0.1, -0.3)[token] for token in numbers[6:].argsort()[:2].tolist())
    assert loss[1].item() == pytest.approx(float(-log_sigmoid(Decimal(two + 0.8))))
    assert torch.equal(one.get_state(), spent.get_state())


def test_equal_lengths_are_sigmoid():
    rows = ((-1.0, -0.5, -2.0), (-0.7, -0.1, -0.3))
    batch = Batch(log_probs(rows), log_probs(rows[::-1]), torch.tensor([[0, 1]]))
    ours, theirs = call(batch, 1, 2, beta=0.7), sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.7)
    assert ours.loss.tolist() == theirs.loss.tolist()
    assert_close(gradient(ours.loss.sum(), batch.policy), gradient(theirs.loss.sum(), batch.policy), atol=0, rtol=0)
    assert ours.reward is not None and theirs.reward is not None
    assert ours.reward.tolist() == theirs.reward.tolist()


def test_policy_and_reference_are_summed_over_the_same_tokens():
    batch = make_batch()
    for seed in range(10):
        output = sampo(batch.policy, batch.policy, batch.pairs, generators(*range(seed, seed + 4)))
        assert output.loss.tolist() == pytest.approx([0.693147] * 2, abs=1e-6)


def test_another_number_of_generators_than_of_rows_is_refused():
    with pytest.raises(ValueError, match="zip"):
        call(make_batch(), 0, 1, 2)


@pytest.mark.parametrize("beta", BETAS)
def test_is_exact(beta: float):
    """Of one token each, so that all are drawn."""
    b = Decimal(beta)
    assert_exact(partial(sampo, beta=beta), lambda w, r: -log_sigmoid(b * (w - r)), steepness=beta)
