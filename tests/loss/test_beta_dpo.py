import math
from collections import Counter
from decimal import Decimal
from functools import partial
from itertools import permutations

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.loss.beta_dpo import beta_dpo
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.types import Generators, LossOutput, State
from tests.loss.batch import RATIOS, Batch, by_decision, gradient, make_batch, margin_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

ANY = torch.Generator().manual_seed(0)
KNOBS = {"beta": 0.1, "alpha": 0.6, "momentum": 0.9, "min_beta": 1e-3}


def of(batch: Batch, state: State, generator: Generators = ANY, **knobs: float) -> LossOutput:
    return beta_dpo(batch.policy, batch.reference, batch.pairs, generator, state, **{**KNOBS, **knobs})


def per_row(batch: Batch, seeds: list[int] | None = None) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds or range(len(batch.policy.token))]


def test_by_hand_without_filter():
    """Margins 3 and 1: mean 2, deviation sqrt(2); t = 0.1 * 2 = 0.2, s = 0.1 * 1.414214.

    b = 0.1 (1 + 0.6 (2 - 0.2)) = 0.208. -log sigmoid(0.624) = 0.429050, -log sigmoid(0.208) = 0.594545; slopes
    -0.208 * 0.348872 = -0.072565 and -0.208 * 0.448187 = -0.093223, none through b.
    """
    batch = margin_batch([3.0, 1.0])
    output = of(batch, {}, keep_fraction=1.0)
    assert output.extra["beta"].tolist() == pytest.approx([0.208])
    assert output.extra["threshold"].tolist() == pytest.approx([0.2])
    assert output.extra["kept"].tolist() == output.weight.tolist() == [1.0, 1.0]
    assert output.loss.tolist() == pytest.approx([0.429050, 0.594545], abs=1e-6)
    slopes = gradient(output.loss.sum(), batch.policy)[[0, 2], 0].tolist()
    assert slopes == pytest.approx([-0.072565, -0.093223], abs=1e-6)
    assert output.state is not None
    assert output.state["spread"].item() == pytest.approx(0.1414214, abs=1e-6)
    assert output.reward is not None and output.reward.tolist() == pytest.approx([0.3, 0.0, 0.1, 0.0])


def test_state_goes_from_step_to_step():
    """After margins 3 and 1: t = 0.2, s = 0.141421. Then 5 and -1, of mean 2 and deviation 6 / sqrt(2) = 4.242641.

    t = 0.9 * 0.2 + 0.1 * 2 = 0.38, s = 0.9 * 0.141421 + 0.1 * 4.242641 = 0.551543, b = 0.1 (1 + 0.6 * 1.62) = 0.1972.
    """
    first = of(margin_batch([3.0, 1.0]), {}, keep_fraction=1.0).state
    assert first is not None
    second = of(margin_batch([5.0, -1.0]), first, keep_fraction=1.0)
    assert second.extra["beta"].tolist() == pytest.approx([0.1972])
    assert second.state is not None
    assert second.state["threshold"].item() == pytest.approx(0.38)
    assert second.state["spread"].item() == pytest.approx(0.551543, abs=1e-6)
    assert first["threshold"].item() == pytest.approx(0.2), "the state given was written to"


def test_one_pair_says_nothing_of_spread():
    state = {"threshold": torch.tensor(1.0, dtype=torch.float64), "spread": torch.tensor(0.5, dtype=torch.float64)}
    output = of(margin_batch([3.0]), state)
    assert output.weight.tolist() == [1.0]
    assert output.state is not None
    assert output.state["threshold"].item() == pytest.approx(1.2)
    assert output.state["spread"].item() == 0.5


def test_a_step_without_pairs_leaves_the_state_as_it_was():
    state = {"threshold": torch.tensor(0.5, dtype=torch.float64), "spread": torch.tensor(2.0, dtype=torch.float64)}
    batch = margin_batch([3.0])
    output = of(batch.with_pairs(batch.pairs[:0]), state)
    assert output.loss.shape == (0,)
    assert output.state == state
    assert output.extra["beta"].tolist() == pytest.approx([0.1])


def test_state_is_plain_and_free_of_the_graph_and_cast_where_it_is_not():
    state = {"threshold": torch.tensor(1.0), "spread": torch.tensor(0.5)}
    new = of(margin_batch([3.0, 1.0], torch.float32), state).state
    assert new is not None
    for value in new.values():
        assert value.dtype == torch.float64 and value.shape == () and not value.requires_grad


@pytest.mark.parametrize("floor", [0.001, 0.02])
def test_beta_has_a_floor(floor: float):
    """Margin -100: t = -10, b = 0.1 (1 - 0.6 * 90) is negative."""
    output = of(margin_batch([-100.0]), {}, min_beta=floor)
    assert output.extra["beta"].tolist() == [floor]
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(100 * floor)))


def test_a_floor_above_beta_is_refused():
    """It would take the place of every beta."""
    with pytest.raises(UserError, match=r"loss\.min_beta: 0\.2 is above loss\.beta=0\.1"):
        of(make_batch(), {}, min_beta=0.2)


def test_is_sigmoid_without_filter_and_alpha():
    batch = make_batch()
    ours = of(batch, {}, beta=0.7, alpha=0.0, keep_fraction=1.0).loss
    theirs = sigmoid(batch.policy, batch.reference, batch.pairs, beta=0.7).loss
    assert_close(ours, theirs)
    assert_close(gradient(ours.sum(), batch.policy), gradient(theirs.sum(), batch.policy))


@pytest.mark.parametrize(
    ("num_pairs", "keep_fraction", "num_kept"), [(5, 0.8, 4), (4, 0.8, 3), (100, 0.29, 29), (3, 0.1, 1), (1, 0.8, 1)]
)
def test_how_many_are_kept(num_pairs: int, keep_fraction: float, num_kept: int):
    """0.29 * 100 is 28.999999999999996 in floating point."""
    batch = margin_batch(torch.linspace(-1, 3, num_pairs).tolist())
    output = of(batch, {}, per_row(batch), keep_fraction=keep_fraction)
    assert sorted(output.weight.tolist()) == [0.0] * (num_pairs - num_kept) + [1.0] * num_kept


def test_pairs_left_out_count_nowhere_but_in_the_threshold():
    """Margins 1, 1.2, 0.8, 1e4 with t = 1, s = 1 before: the last is 9 s or more away from t.

    t = 0.9 + 0.1 * 2500.75 = 250.975; s = 0.9 + 0.1 * 4999.5 = 500.85 of deviation 4999.5. The last pair is 19.5 s
    away, the others 0.5: its weight is exp(-190). b = 0.1 (1 + 0.6 (1 - 250.975)) falls to the floor.
    """
    batch = margin_batch([1.0, 1.2, 0.8, 1e4])
    state = {"threshold": torch.tensor(1.0), "spread": torch.tensor(1.0)}
    output = of(batch, state, keep_fraction=0.75)
    assert output.weight.tolist() == output.extra["kept"].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert output.extra["threshold"].item() == pytest.approx(250.975)
    assert output.extra["beta"].tolist() == [1e-3]
    slopes = gradient(reduce(output), batch.policy)[::2, 0]
    assert slopes[3].item() == 0
    assert slopes[:3].tolist() == pytest.approx([-1e-3 / 6] * 3, rel=1e-2)


def test_who_is_kept_is_drawn_by_weight_without_replacement():
    """Margins 0, 2, 4 (mean 2, deviation 2) on t = -2/9, s = 2 before give t = 0, s = 2: weights 1, e^-0.5, e^-2.

    Of three, two are drawn one after the other; over 2000 draws a share has an error of 0.011.
    """
    batch = margin_batch([0.0, 2.0, 4.0])
    state = {"threshold": torch.tensor(-2 / 9, dtype=torch.float64), "spread": torch.tensor(2.0, dtype=torch.float64)}
    generator = torch.Generator().manual_seed(1)
    left_out = Counter(of(batch, state, generator, keep_fraction=0.67).weight.argmin().item() for _ in range(2000))
    weights = [1.0, math.exp(-0.5), math.exp(-2.0)]
    expected = [0.0] * 3
    for first, second, last in permutations(range(3)):
        total = sum(weights)
        expected[last] += weights[first] / total * weights[second] / (total - weights[first])
    assert [left_out[index] / 2000 for index in range(3)] == pytest.approx(expected, abs=0.04)


def test_row_order_changes_neither_who_is_kept_nor_a_bit_of_the_state():
    """Margins of unlike size, so that their sum rounds otherwise in another order."""
    sizes = torch.logspace(-3, 3, 12, dtype=torch.float64)
    batch = margin_batch((torch.randn(12, generator=torch.Generator().manual_seed(5)) * sizes).tolist())
    order, line = (torch.randperm(num, generator=torch.Generator().manual_seed(27)) for num in (24, 12))
    policy, reference = (type(part)(part.token[order], part.mask[order]) for part in (batch.policy, batch.reference))
    turned = Batch(policy, reference, order.argsort()[batch.pairs][line])
    first = of(batch, {}, per_row(batch), keep_fraction=0.5)
    second = of(turned, {}, per_row(turned, order.tolist()), keep_fraction=0.5)
    assert first.weight[line].tolist() == second.weight.tolist()
    assert first.state == second.state
    assert first.extra["beta"].tolist() == second.extra["beta"].tolist()


def test_who_is_kept_hangs_on_the_generators():
    batch = margin_batch([1.0] * 8)
    state = {"threshold": torch.tensor(1.0), "spread": torch.tensor(1.0)}
    draws = [
        of(batch, state, per_row(batch, list(range(start, start + 16))), keep_fraction=0.5).weight.tolist()
        for start in (0, 100, 0)
    ]
    assert draws[0] == draws[2] != draws[1]


def test_equal_margins_far_from_the_threshold_are_still_drawn_from():
    """s = 0.1 * 0, and t = 0.1: every weight is exp(-4e23)."""
    batch = margin_batch([1.0] * 8)
    one, other = (
        of(batch, {}, per_row(batch, list(range(start, start + 16))), keep_fraction=0.5).weight for start in (0, 100)
    )
    assert one.sum() == other.sum() == 4
    assert one.tolist() != other.tolist()


def test_keeping_all_draws_nothing():
    batch = make_batch()
    generators = per_row(batch)
    before = [generator.get_state() for generator in generators]
    output = of(batch, {}, generators, keep_fraction=1.0)
    assert all(torch.equal(old, new.get_state()) for old, new in zip(before, generators, strict=True))
    assert output.weight.tolist() == [1.0, 1.0]


def test_ln_2_where_policy_is_reference():
    """Margins, t and s are 0, and b is beta. Slopes -+ beta / 2 = -+ 0.15, halved by the average over two pairs."""
    batch = make_batch()
    alike = Batch(batch.policy, batch.policy, batch.pairs)
    output = of(alike, {}, beta=0.3, keep_fraction=1.0)
    assert output.loss.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-15)
    expected = by_decision([-0.075, 0.075, 0.075, -0.075])
    assert_close(gradient(reduce(output), batch.policy), expected, atol=1e-12, rtol=0)
    filtered = of(alike, {}, per_row(alike), beta=0.3, keep_fraction=0.5)
    assert sorted(filtered.weight.tolist()) == [0.0, 1.0]
    assert filtered.state is not None and [value.item() for value in filtered.state.values()] == [0.0, 0.0]


@pytest.mark.parametrize("beta", BETAS)
def test_one_pair_is_exact(beta: float):
    """t = 0.1 h, so b = beta (1 + 0.6 * 0.9 h), which no slope goes through, or its floor."""
    steepest = beta * (1 + 0.54 * 1e4)

    def formula(w: Decimal, r: Decimal) -> Decimal:
        excess = Decimal("0.9") * constant(w - r)
        strength = max(Decimal("1e-3"), Decimal(beta) * (1 + Decimal("0.6") * excess))
        return -log_sigmoid(strength * (w - r))

    assert_exact(partial(beta_dpo, **{**KNOBS, "beta": beta}), formula, steepness=2 * steepest)


def constant(x: Decimal) -> Decimal:
    """x rounded so that the step of a difference does not move it."""
    return x.quantize(Decimal("1e-18"))


def test_reward_has_the_beta_of_the_config():
    batch = make_batch()
    reward = of(batch, {}, beta=0.3).reward
    assert reward is not None
    assert reward.tolist() == pytest.approx([0.3 * ratio for ratio in RATIOS])


def test_pairs_that_share_rows_are_drawn_apart():
    """Of the cycle (0, 1), (1, 2), (2, 0) and a repeated pair, all with one margin, every two are as likely.

    Policy = reference, so all weights are equal; 4 pairs have 6 couples. 3000 draws: chi-square with 5 degrees of
    freedom is below 20.5 with probability 0.999.
    """
    pairs = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 1]])
    batch = make_batch()
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(3000):
        generators = [torch.Generator().manual_seed(4 * seed + row) for row in range(4)]
        output = beta_dpo(batch.policy, batch.policy, pairs, generators, {}, keep_fraction=0.5)
        counts[tuple(output.weight.nonzero()[:, 0].tolist())] += 1
    assert len(counts) == 6
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 20.5
