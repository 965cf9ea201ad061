import math
from decimal import Decimal
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.aot_unpaired import aot_unpaired
from tests.loss.batch import by_decision, gradient, log_probs, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid


def rows(*ratios: float, dtype: torch.dtype = torch.float64):
    return log_probs([[ratio] for ratio in ratios], dtype), log_probs([[0.0]] * len(ratios), dtype)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_equal_numbers_by_hand():
    """Desirable 2 and 0, undesirable 1 and -3: sorted 0, 2 less -3, 1 is 3, 1. beta 0.5.

    -log sigmoid(1.5) = 0.201413, -log sigmoid(0.5) = 0.474077; slopes -+ 0.5 sigmoid(-1.5) = 0.091213 and
    -+ 0.5 sigmoid(-0.5) = 0.188770.
    """
    policy, reference = rows(2.0, 1.0, 0.0, -3.0, 7.0)
    output = aot_unpaired(policy, reference, torch.tensor([1, 0, 1, 0, -1]), beta=0.5)
    assert output.loss.tolist() == pytest.approx([0.201413, 0.474077], abs=1e-6)
    assert output.weight.tolist() == [1.0, 1.0]
    expected = [-0.188770, 0.188770, -0.091213, 0.091213, 0.0]
    assert gradient(output.loss.sum(), policy)[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert output.reward is not None and output.reward.tolist() == [1.0, 0.5, 0.0, -1.5, 3.5]


def test_unequal_numbers_by_hand():
    """Desirable 1 and 4, undesirable -2, 0 and 3. Steps of the one at 1/2, of the other at 1/3 and 2/3.

    On [0, 1/3] 1 less -2 is 3; on [1/3, 1/2] 1 less 0 is 1; on [1/2, 2/3] 4 less 0 is 4; on [2/3, 1] 4 less 3 is 1.
    Lengths 1/3, 1/6, 1/6, 1/3 times (2 + 3) / 2.
    """
    policy, reference = rows(0.0, 4.0, 3.0, 1.0, -2.0)
    output = aot_unpaired(policy, reference, torch.tensor([0, 1, 0, 1, 0]), beta=1.0)
    assert output.loss.tolist() == pytest.approx([softplus(-3), softplus(-1), softplus(-4), softplus(-1)])
    assert output.weight.tolist() == pytest.approx([5 / 6, 5 / 12, 5 / 12, 5 / 6], rel=1e-12)
    mean = (2 * softplus(-3) + softplus(-1) + softplus(-4) + 2 * softplus(-1)) / 6
    assert reduce(output).item() == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("num_desirable", "num_undesirable"), [(1, 4), (4, 1), (3, 5), (4, 6), (3, 3)])
def test_is_the_integral_over_quantiles(num_desirable: int, num_undesirable: int):
    """Repeat each response until both kinds have as many: the quantile functions stay, and place meets place."""
    generator = torch.Generator().manual_seed(3)
    ratios = torch.randn(num_desirable + num_undesirable, generator=generator, dtype=torch.float64).tolist()
    labels = torch.tensor([1] * num_desirable + [0] * num_undesirable)
    policy, reference = rows(*ratios)
    output = aot_unpaired(policy, reference, labels, beta=0.7, label_smoothing=0.1)
    common = math.lcm(num_desirable, num_undesirable)
    times = torch.where(labels == 1, common // num_desirable, common // num_undesirable)
    repeated = policy.token.repeat_interleave(times, 0), policy.mask.repeat_interleave(times, 0)
    many = type(policy)(*repeated)
    expected = aot_unpaired(
        many, rows(*[0.0] * len(many.token))[0], labels.repeat_interleave(times), beta=0.7, label_smoothing=0.1
    )
    assert expected.weight.unique().tolist() == [1.0]
    assert_close(reduce(output), reduce(expected))
    assert_close(gradient(reduce(output), policy), gradient(reduce(expected), policy))
    assert output.weight.sum().item() == pytest.approx((num_desirable + num_undesirable) / 2)
    assert len(output.loss) == num_desirable + num_undesirable - math.gcd(num_desirable, num_undesirable)


def test_smoothing_by_hand():
    """q = 2, beta 0.5: 0.9 * 0.313262 + 0.1 * 1.313262 = 0.413262."""
    loss = aot_unpaired(*rows(2.0, 0.0), torch.tensor([1, 0]), beta=0.5, label_smoothing=0.1).loss
    assert loss.tolist() == pytest.approx([0.413262], abs=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_one_of_each_is_exact(beta: float):
    b, e = Decimal(beta), Decimal("0.2")
    assert_exact(
        partial(aot_unpaired, beta=beta, label_smoothing=0.2),
        lambda w, r: -(1 - e) * log_sigmoid(b * (w - r)) - e * log_sigmoid(-b * (w - r)),
        steepness=beta,
    )


def test_ln_2_where_policy_is_reference():
    """One desirable against three: slopes -+ beta / 2 = -+ 0.2, the one takes all of it, the three a third each."""
    batch = make_batch()
    output = aot_unpaired(batch.policy, batch.policy, torch.tensor([0, 1, 0, 0]), beta=0.4)
    assert output.loss.tolist() == pytest.approx([math.log(2)] * 3, abs=1e-15)
    expected = by_decision([0.2 / 3, -0.2, 0.2 / 3, 0.2 / 3])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)


def test_row_order_does_not_matter():
    ratios, labels, order = torch.tensor([0.4, -1.0, 2.0, 0.1, 0.9]), torch.tensor([0, 1, 0, 1, 1]), [3, 1, 4, 0, 2]
    first = aot_unpaired(*rows(*ratios.tolist()), labels)
    second = aot_unpaired(*rows(*ratios[order].tolist()), labels[order])
    assert first.loss.tolist() == second.loss.tolist()
    assert first.weight.tolist() == second.weight.tolist()


@pytest.mark.parametrize("labels", [(1, 1, -1), (0, -1, 0)])
def test_one_kind_alone_compares_nothing(labels: tuple[int, ...]):
    policy, reference = rows(1.0, 2.0, 3.0)
    output = aot_unpaired(policy, reference, torch.tensor(labels))
    assert output.loss.tolist() == output.weight.tolist() == []
    assert output.reward is not None and len(output.reward) == 3
    assert gradient(output.loss.sum(), policy).tolist() == [[0.0]] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype(dtype: torch.dtype):
    output = aot_unpaired(*rows(1.0, 2.0, 3.0, dtype=dtype), torch.tensor([1, 0, 0]))
    assert output.loss.dtype == output.weight.dtype == dtype
