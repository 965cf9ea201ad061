from collections.abc import Sequence
from decimal import Decimal, localcontext
from math import factorial, log

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.plackett_luce import plackett_luce
from dpo_lab.loss.sigmoid import sigmoid
from tests.loss.batch import RATIOS, Batch, gradient, list_batch, log_probs, make_batch, reduce
from tests.loss.exact import BETAS, DIGITS, POINTS, SMALLEST, STEP

# Log-ratios of a whole list, nats, best first.
LISTS = (
    (0.0, 0.0, 0.0),
    (0.6, -0.1, -0.8),
    (-0.8, 0.1, 0.6, -0.3),
    (30.0, -3.0, -60.0),
    (1e4, 0.5, -1e4),
    (-1e4, 0.5, 1e4),
    (0.5, -1e4, 1e4),
    (-1e4, -1e4, -9990.0, -1e4),
    (200.0, 100.0, 0.0, -100.0),
)


def formula(beta: Decimal, ratios: Sequence[Decimal]) -> Decimal:
    """As the paper has it, with log(1 + x) as the sum that keeps an x of exp(-1e5)."""
    odds = [[(beta * (other - ratio)).exp() for other in ratios[at + 1 :]] for at, ratio in enumerate(ratios)]
    return sum((log_1_plus(sum(each, Decimal(0))) for each in odds[:-1]), Decimal(0))


def log_1_plus(x: Decimal) -> Decimal:
    return x - x * x / 2 if x < Decimal("1e-60") else (1 + x).ln()


def derive(beta: float, ratios: Sequence[float]) -> tuple[float, list[float]]:
    """Value of `formula` and its derivatives, as central differences."""
    with localcontext(DIGITS):
        b, values = Decimal(beta), [Decimal(ratio) for ratio in ratios]
        moved = [
            [formula(b, [*values[:at], values[at] + step, *values[at + 1 :]]) for step in (STEP, -STEP)]
            for at in range(len(values))
        ]
        return float(formula(b, values)), [float((up - down) / (2 * STEP)) for up, down in moved]


def one_list(ratios: Sequence[float], dtype: torch.dtype = torch.float64, num_missing: int = 0) -> Batch:
    """One list of one-token responses, with `num_missing` places behind its end."""
    rows = [[ratio] for ratio in ratios]
    places = [*range(len(rows)), *[-1] * num_missing]
    policy, reference = log_probs(rows, dtype), log_probs([[0.0]] * len(rows), dtype)
    return Batch(policy, reference, torch.empty(0, 2, dtype=torch.long), ranking=torch.tensor([places]))


def call(batch: Batch, beta: float):
    assert batch.ranking is not None
    return plackett_luce(batch.policy, batch.reference, batch.ranking, beta=beta)


def test_by_hand():
    """beta 1, log-ratios log 4, log 2, 0, so odds 4, 2, 1: (4 / 7) (2 / 3) = 8 / 21, loss log(21 / 8) = 0.965081.

    Slopes: first 4 / 7 - 1 = -3 / 7; second 2 / 7 + 2 / 3 - 1 = -1 / 21; third 1 / 7 + 1 / 3 = 10 / 21.
    """
    batch = one_list([log(4), log(2), 0.0])
    output = call(batch, 1.0)
    assert output.loss.item() == pytest.approx(0.965081, abs=1e-6)
    slopes = gradient(reduce(output), batch.policy)[:, 0].tolist()
    assert slopes == pytest.approx([-3 / 7, -1 / 21, 10 / 21])
    assert output.weight.tolist() == [1.0]


def test_lists_of_several_lengths():
    """A list of three beside one of one, each as by itself. The -1 behind the end touch no row, nor the last one."""
    batch = make_batch()
    ranking = torch.tensor([[2, 0, 1], [3, -1, -1]])
    output = plackett_luce(batch.policy, batch.reference, ranking, beta=0.7)
    alone = plackett_luce(batch.policy, batch.reference, ranking[:1], beta=0.7)
    assert output.loss.tolist() == [alone.loss.item(), 0.0]
    slopes = gradient(output.loss.sum(), batch.policy)
    assert_close(slopes, gradient(alone.loss.sum(), batch.policy), atol=0, rtol=0)
    assert not slopes[3].any()
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.7 * ratio for ratio in RATIOS])


@pytest.mark.parametrize("num_missing", [0, 1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_two_responses_are_sigmoid(point: tuple[float, float], num_missing: int):
    batch = one_list(point, num_missing=num_missing)
    ours = call(batch, 0.7).loss
    theirs = sigmoid(batch.policy, batch.reference, torch.tensor([[0, 1]]), beta=0.7).loss
    assert_close(ours, theirs, atol=0, rtol=1e-14)
    slopes = [gradient(loss.sum(), batch.policy) for loss in (ours, theirs)]
    assert_close(slopes[0], slopes[1], atol=0, rtol=1e-14)


def test_pairs_of_unequal_lengths_are_sigmoid():
    batch = make_batch()
    ours = plackett_luce(batch.policy, batch.reference, batch.pairs, beta=0.7).loss
    theirs = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.7).loss
    assert_close(ours, theirs, atol=1e-14, rtol=0)
    assert_close(gradient(ours.sum(), batch.policy), gradient(theirs.sum(), batch.policy), atol=1e-14, rtol=0)


@pytest.mark.parametrize("num_rows", [2, 3, 5])
def test_where_policy_is_reference_every_order_is_as_likely(num_rows: int):
    assert call(one_list([0.0] * num_rows), 0.3).loss.item() == pytest.approx(log(factorial(num_rows)))


def test_items_are_lists_and_borrowed_rows_have_a_reward():
    batch = list_batch()
    output = call(batch, 0.5)
    assert output.loss.shape == output.weight.shape == (2,)
    assert output.reward is not None and output.reward.shape == (8,)
    assert output.reward[6:].tolist() == pytest.approx([0.5 * -0.4, 0.5 * -0.3])


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("num_missing", [0, 2])
@pytest.mark.parametrize(("dtype", "tolerance", "rounding"), [(torch.float64, 1e-9, 0.0), (torch.float32, 1e-5, 5e-7)])
def test_is_exact(beta: float, num_missing: int, dtype: torch.dtype, tolerance: float, rounding: float):
    """As `assert_exact` has it for pairs."""
    for ratios in LISTS:
        batch = one_list(ratios, dtype, num_missing)
        loss = call(batch, beta).loss.sum()
        values = batch.policy.token.detach()[:, 0].tolist()
        relative = min(tolerance + rounding * beta * max(map(abs, values)), 0.5)
        value, slopes = derive(beta, values)
        least = max(SMALLEST[dtype], relative * max(map(abs, slopes)))
        assert loss.item() == pytest.approx(value, rel=relative, abs=SMALLEST[dtype]), ratios
        assert gradient(loss, batch.policy)[:, 0].tolist() == pytest.approx(slopes, rel=relative, abs=least), ratios
