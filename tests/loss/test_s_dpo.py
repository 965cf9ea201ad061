from collections.abc import Sequence
from decimal import Decimal, localcontext
from math import exp, log

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.plackett_luce import plackett_luce
from dpo_lab.loss.s_dpo import s_dpo
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.needs import LossFunction, Term
from tests.loss.batch import RATIOS, gradient, list_batch, log_probs, make_batch, reduce
from tests.loss.exact import BETAS, DIGITS, POINTS, SMALLEST, STEP, log_sigmoid

# Log-ratios of a whole list, nats, the best first.
LISTS = (
    (0.0, 0.0, 0.0),
    (0.6, -0.1, -0.8),
    (-0.8, 0.1, 0.6, -0.3),
    (30.0, -3.0, -60.0),
    (1e4, 0.5, -1e4),
    (-1e4, 0.5, 1e4),
    (-1e4, -1e4, -9990.0, -1e4),
    (200.0, 100.0, 100.0, -100.0),
)


def formula(beta: Decimal, ratios: Sequence[Decimal]) -> Decimal:
    """As the paper has it."""
    return -log_sigmoid(-sum(((beta * (other - ratios[0])).exp() for other in ratios[1:]), Decimal(0)).ln())


def derive(beta: float, ratios: Sequence[float]) -> tuple[float, list[float]]:
    """Value of `formula` and its derivatives, as central differences."""
    with localcontext(DIGITS):
        b, values = Decimal(beta), [Decimal(ratio) for ratio in ratios]
        moved = [
            [formula(b, [*values[:at], values[at] + step, *values[at + 1 :]]) for step in (STEP, -STEP)]
            for at in range(len(values))
        ]
        return float(formula(b, values)), [float((up - down) / (2 * STEP)) for up, down in moved]


def one_list(ratios: Sequence[float], dtype: torch.dtype = torch.float64, num_missing: int = 0):
    """Policy, reference and ranking of one list of one-token responses, with `num_missing` places behind its end."""
    policy, reference = log_probs([[ratio] for ratio in ratios], dtype), log_probs([[0.0]] * len(ratios), dtype)
    return policy, reference, torch.tensor([[*range(len(ratios)), *[-1] * num_missing]])


def test_by_hand():
    """beta 1, log-ratios log 4, log 2, 0: -log(sigmoid(-log(2 / 4 + 1 / 4))) = log(1 + 3 / 4) = 0.559616.

    Slopes: best 4 / 7 - 1, others 2 / 7 and 1 / 7.
    """
    policy, reference, ranking = one_list([log(4), log(2), 0.0])
    output = s_dpo(policy, reference, ranking, beta=1.0)
    assert output.loss.item() == pytest.approx(0.559616, abs=1e-6)
    assert gradient(reduce(output), policy)[:, 0].tolist() == pytest.approx([-3 / 7, 2 / 7, 1 / 7])
    assert output.weight.tolist() == [1.0]


def test_only_the_best_has_to_be_known():
    assert Term("only", s_dpo).best_alone
    policy, reference, ranking = one_list([0.6, -0.1, -0.8])
    one, other = (s_dpo(policy, reference, each).loss for each in (ranking, ranking[:, [0, 2, 1]]))
    assert_close(one, other, atol=0, rtol=1e-15)
    assert s_dpo(policy, reference, ranking[:, [1, 0, 2]]).loss.item() != pytest.approx(one.item())


@pytest.mark.parametrize("num_missing", [0, 1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_one_other_is_sigmoid(point: tuple[float, float], num_missing: int):
    policy, reference, ranking = one_list(point, num_missing=num_missing)
    ours = s_dpo(policy, reference, ranking, beta=0.7).loss
    theirs = sigmoid(policy, reference, torch.tensor([[0, 1]]), beta=0.7).loss
    assert_close(ours, theirs, atol=0, rtol=1e-14)
    assert_close(gradient(ours.sum(), policy), gradient(theirs.sum(), policy), atol=0, rtol=1e-14)


def test_is_the_first_choice_of_plackett_luce():
    """The rest of the ranking is a ranking of the others."""
    policy, reference, ranking = one_list([0.6, -0.1, -0.8, 0.3])
    first = s_dpo(policy, reference, ranking).loss
    whole, rest = (plackett_luce(policy, reference, each).loss for each in (ranking, ranking[:, 1:]))
    assert_close(first + rest, whole, atol=0, rtol=1e-14)


def test_lists_of_several_lengths():
    """A list of one response has loss 0. The -1 behind the end touch no row, nor the last one."""
    batch = make_batch()
    ranking = torch.tensor([[2, 0, 1], [3, -1, -1]])
    output = s_dpo(batch.policy, batch.reference, ranking, beta=0.7)
    alone = s_dpo(batch.policy, batch.reference, ranking[:1], beta=0.7)
    assert output.loss.tolist() == [alone.loss.item(), 0.0]
    slopes = gradient(output.loss.sum(), batch.policy)
    assert_close(slopes, gradient(alone.loss.sum(), batch.policy), atol=0, rtol=0)
    assert not slopes[3].any()
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.7 * ratio for ratio in RATIOS])


def test_lists_of_one_response_alone():
    batch = make_batch()
    output = s_dpo(batch.policy, batch.reference, torch.tensor([[2], [3]]))
    assert output.loss.tolist() == [0.0, 0.0]
    assert not gradient(output.loss.sum(), batch.policy).any()


def test_items_are_lists_and_borrowed_rows_have_a_reward():
    batch = list_batch()
    assert batch.ranking is not None
    output = s_dpo(batch.policy, batch.reference, batch.ranking, beta=0.5)
    assert output.loss.shape == output.weight.shape == (2,)
    assert output.reward is not None
    assert output.reward[6:].tolist() == pytest.approx([0.5 * -0.4, 0.5 * -0.3])


@pytest.mark.parametrize("num_rows", [2, 3, 5])
def test_where_policy_is_reference_any_response_is_as_likely(num_rows: int):
    assert s_dpo(*one_list([0.0] * num_rows)).loss.item() == pytest.approx(log(num_rows))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("num_missing", [0, 2])
@pytest.mark.parametrize(("dtype", "tolerance", "rounding"), [(torch.float64, 1e-9, 0.0), (torch.float32, 1e-5, 5e-7)])
def test_is_exact(beta: float, num_missing: int, dtype: torch.dtype, tolerance: float, rounding: float):
    """As `assert_exact` has it for pairs."""
    for ratios in LISTS:
        policy, reference, ranking = one_list(ratios, dtype, num_missing)
        loss = s_dpo(policy, reference, ranking, beta=beta).loss.sum()
        values = policy.token.detach()[:, 0].tolist()
        relative = min(tolerance + rounding * beta * max(map(abs, values)), 0.5)
        value, slopes = derive(beta, values)
        least = max(SMALLEST[dtype], relative * max(map(abs, slopes)))
        assert loss.item() == pytest.approx(value, rel=relative, abs=SMALLEST[dtype]), ratios
        assert gradient(loss, policy)[:, 0].tolist() == pytest.approx(slopes, rel=relative, abs=least), ratios


@pytest.mark.parametrize("loss", [s_dpo, plackett_luce])
@pytest.mark.parametrize("beta", BETAS)
def test_far_behind_several_the_slopes_add_up_to_beta(loss: LossFunction, beta: float):
    """Odds of e^-100 and less: the best response is pulled with all of beta, and the others are pushed with as much.

    In float32 a rounded logsumexp would make that 1.0008 beta.
    """
    batch = log_probs([[-1e4], [-3.25], [-3.5]], torch.float32), log_probs([[-1.0], [-1e4], [-1e4]], torch.float32)
    value = loss(*batch, torch.tensor([[0, 1, 2]]), beta=beta).loss.sum()
    (slopes,) = torch.autograd.grad(value, batch[0].token)
    assert slopes[0].item() == pytest.approx(-beta, rel=1e-6)
    assert slopes.sum().item() == pytest.approx(0, abs=1e-6 * beta)


@pytest.mark.parametrize("loss", [s_dpo, plackett_luce])
def test_far_behind_several_the_others_are_told_apart(loss: LossFunction):
    """Two log-ratios of -1.83 and -1.6 beside one of -2e4, beta 10: the slopes are as 1 to exp(2.3), and add up to 10.

    The second step of Plackett-Luce adds what separates the two: 10 sigmoid(2.3) off the one and onto the other.
    """
    policy = log_probs([[-20000.0], [-3.13], [-2.7]], torch.float32)
    reference = log_probs([[-1.0], [-1.3], [-1.1]], torch.float32)
    value = loss(policy, reference, torch.tensor([[0, 1, 2]]), beta=10.0).loss.sum()
    slopes = gradient(value, policy)[:, 0].tolist()
    share = 10 / (1 + exp(2.3))
    further = 10 - share if loss is plackett_luce else 0.0
    assert slopes == pytest.approx([-10, share - further, 10 - share + further], rel=1e-5)
