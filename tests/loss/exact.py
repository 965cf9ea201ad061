"""Losses in 150 decimal digits, where a formula can be written as its paper has it and differentiated by a step."""

from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

import pytest
import torch

from dpo_lab.needs import LossFunction, Objective, Term
from tests.loss.batch import Batch, gradient, log_probs, total

Formula = Callable[[Decimal, Decimal], Decimal]

BETAS = (0.01, 0.1, 10.0)
# Log-ratios (chosen, rejected) of one-token responses, nats: equal, ordinary, steep, and far beyond any exp.
POINTS = (
    (0.0, 0.0),
    (0.6, -0.1),
    (-0.8, 0.1),
    (-3.0, -3.0),
    (30.0, -3.0),
    (-20.0, 15.0),
    (300.0, -100.0),
    (1e4, 0.5),
    (-1e4, 0.5),
    (0.5, 1e4),
    (0.5, -1e4),
    (-1e4, -1e4),
    (-1e4, -9990.0),
)
# 1 + exp(-x) has to differ from 1 well below what is compared, by more than the step of a difference takes away.
DIGITS = Context(prec=150, Emax=MAX_EMAX, Emin=MIN_EMIN)
STEP = Decimal("1e-25")
# Not compared below: lost to the digits kept, or in float32 to subnormal numbers.
SMALLEST = {torch.float64: 1e-100, torch.float32: 1e-35}


def sigmoid_of(x: Decimal) -> Decimal:
    """Logistic function."""
    return 1 / (1 + (-x).exp()) if x > 0 else x.exp() / (1 + x.exp())


def log_sigmoid(x: Decimal) -> Decimal:
    return -(1 + (-x).exp()).ln() if x > 0 else x - (1 + x.exp()).ln()


def assert_exact(
    loss: LossFunction | Objective,
    formula: Formula,
    *,
    steepness: float = 1.0,
    points: Sequence[tuple[float, float]] = POINTS,
) -> None:
    """`loss` of one pair of one-token responses, and its gradient, against `formula` of the two log-ratios.

    1e-9 relative in float64. In float32 1e-5 relative plus the rounding of inputs: a float32 x has an error of
    6e-8 |x|, which `steepness` (what the formula multiplies x by before an exponential) makes one of the result. A
    slope is compared in proportion to the larger of the two.
    """
    objective = loss if isinstance(loss, Objective) else Objective((Term("only", loss),))
    for dtype, tolerance, rounding in ((torch.float64, 1e-9, 0.0), (torch.float32, 1e-5, 5e-7)):
        for point in points:
            batch = one_token_pair(point, dtype)
            value = total(objective, batch)
            slopes = gradient(value, batch.policy)[:, 0].tolist()
            arguments = batch.policy.token.detach()[:, 0].tolist()
            relative = min(tolerance + rounding * steepness * max(map(abs, arguments)), 0.5)
            true_value, *true_slopes = derive(formula, *arguments)
            largest = max(SMALLEST[dtype], relative * max(map(abs, true_slopes)))
            where = f"at {point} in {dtype}"
            assert value.item() == pytest.approx(true_value, rel=relative, abs=SMALLEST[dtype]), where
            assert slopes == pytest.approx(true_slopes, rel=relative, abs=largest), where


def one_token_pair(point: tuple[float, float], dtype: torch.dtype = torch.float64) -> Batch:
    """A pair whose two responses have one token each; the reference gives all of them log-prob 0."""
    policy = log_probs([[value] for value in point], dtype)
    return Batch(policy, log_probs([[0.0], [0.0]], dtype), torch.tensor([[0, 1]]))


def derive(formula: Formula, chosen: float, rejected: float) -> tuple[float, float, float]:
    """Value of `formula` and its two derivatives, as central differences."""
    with localcontext(DIGITS):
        a, b = Decimal(chosen), Decimal(rejected)
        along_a = (formula(a + STEP, b) - formula(a - STEP, b)) / (2 * STEP)
        along_b = (formula(a, b + STEP) - formula(a, b - STEP)) / (2 * STEP)
        return float(formula(a, b)), float(along_a), float(along_b)
