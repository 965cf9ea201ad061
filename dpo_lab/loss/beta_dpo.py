"""DPO whose beta follows the margins of the optimizer step, and which leaves outlying pairs out."""

import math
from collections import Counter
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.errors import UserError
from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import whole_batch
from dpo_lab.ranges import Fraction, Interval, NonNegative, Positive
from dpo_lab.types import Generators, LogProbs, LossOutput, Pairs, State

# Nats. A spread of 0 (policy = reference, or equal margins) would divide 0 by 0; below this it is taken for this.
SMALLEST_SPREAD = 1e-12


@whole_batch
def beta_dpo(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    generator: Generators,
    state: State,
    *,
    beta: Positive = 0.1,
    alpha: NonNegative = 0.6,
    keep_fraction: Annotated[float, Interval(gt=0, le=1)] = 0.8,
    momentum: Fraction = 0.9,
    min_beta: Positive = 1e-3,
) -> LossOutput:
    """-log sigmoid(b h) of the pairs kept, b = max(min_beta, beta (1 + alpha (mean h - t))), h chosen minus rejected.

    h is a difference of log-ratios, nats. t <- momentum t + (1 - momentum) mean h and
    s <- momentum s + (1 - momentum) std h are moving averages over all pairs of each optimizer step. A pair is drawn
    to be kept with a weight exp(-((h - t) / s)^2 / 2), without replacement, until floor(keep_fraction p) of the p
    pairs, at least one, are. Source: Wu et al. 2024, arXiv 2407.08639: t is the paper's M_0 and s its sigma;
    the filtering ratio in the authors' README is 1 - keep_fraction. b, t and s are held constant.

    As in the authors' code: t and s start at 0 (where the reference is the initial policy, so do the margins), and
    are brought up to date with the present step before they are used; the mean in b is over the pairs kept, those in
    t and s over all; s is the unbiased deviation, so a step of one pair leaves it as it was; b is no lower than
    `min_beta`, since it would be negative where margins fall far below t; h carries no beta, so an alpha meant for
    differences of rewards, beta h, is to be multiplied by beta here. Differently from there, t and s move once an
    optimizer step and not once a micro-batch.

    What a row draws comes from its own generator, and a pair's number from its two rows: which pairs are kept depends
    neither on the order of rows nor on ranks. `keep_fraction=1` keeps all and draws nothing.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        generator: one a row, of which each gives one number; or one from which all rows draw in turn.
        state: of the step before: "threshold", t, and "spread", s, nats. Empty before the first step.
        beta: the paper's beta_0, the pull to the reference where margins are as usual, per nat. In (0, inf).
        alpha: how much the pull rises with a margin above the usual, per nat; 0 keeps beta. In [0, inf).
        keep_fraction: share of the pairs that are kept; smaller leaves out more of those far from t. In (0, 1].
        momentum: larger makes t and s slower. In [0, 1).
        min_beta: floor of b, per nat. In (0, inf).

    Returns:
        loss in nats, one a pair; weight 1 of a pair kept and 0 of one left out. ln 2 where policy equals reference.
        reward = beta * log-ratio with beta as configured, so that steps can be compared. Curves "beta" (b, per nat),
        "threshold" (t, nats) and "kept" (of each pair, 1 or 0). The new `state`: scalars in float64, the same to the
        last bit in whatever order the rows come.

    Raises:
        UserError: for a min_beta above beta.
        ValueError: when policy and reference score rows of another number or length.
    """
    if min_beta > beta:
        raise UserError(f"loss.min_beta: {min_beta} is above loss.beta={beta}, which would then never be used")
    ratio = log_ratio(policy, reference)
    margin = ratio[pairs[:, 0]] - ratio[pairs[:, 1]]
    constant = margin.detach().double()
    new = _update(state, constant, momentum)
    kept = _choose(constant, new, pairs, generator, len(ratio), keep_fraction)
    # In ascending order, so that the order of the rows does not show in the rounding.
    usual = new["threshold"]
    excess = constant[kept].sort().values.mean() - usual if len(kept) else torch.zeros_like(usual)
    strength = (beta * (1 + alpha * excess)).clamp(min=min_beta).to(margin.dtype)
    loss = -logsigmoid(strength * margin)
    weight = loss.new_zeros(loss.shape).index_fill(0, kept, 1)
    extra = {"beta": strength.reshape(1), "threshold": usual.to(loss.dtype).reshape(1), "kept": weight}
    return LossOutput(loss=loss, weight=weight, reward=beta * ratio.detach(), extra=extra, state=new)


def _update(state: State, margin: Float[Tensor, " p"], momentum: float) -> State:
    """Moving averages of the mean and the deviation of the margins, nats; as they were where there are none."""
    values = margin.sort().values
    observed = {"threshold": values.mean()} if len(values) else {}
    observed |= {"spread": values.std()} if len(values) > 1 else {}
    zero = values.new_zeros(())
    before = {name: state[name].to(zero) if name in state else zero for name in ("threshold", "spread")}
    return before | {name: momentum * before[name] + (1 - momentum) * value for name, value in observed.items()}


def _choose(
    margin: Float[Tensor, " p"], state: State, pairs: Pairs, generator: Generators, num_rows: int, keep_fraction: float
) -> Int[Tensor, " kept"]:
    """Pairs that are kept.

    To sort by log weight plus Gumbel noise is to draw by weight without replacement (Efraimidis and Spirakis 2006).
    """
    # 0.29 * 100 is 28.999999999999996.
    num_kept = max(1, math.floor(keep_fraction * len(pairs) + 1e-9))
    if num_kept >= len(pairs):
        return torch.arange(len(pairs), device=pairs.device)
    distance = (margin - state["threshold"]) / state["spread"].clamp(min=SMALLEST_SPREAD)
    uniform = _draw(generator, pairs, num_rows).to(margin.device)
    log_weight = -0.5 * distance**2
    # The largest is taken off first: among weights that are all tiny, rounding would swallow the noise.
    key = log_weight - log_weight.max() - (-uniform.log()).log()
    return key.argsort(descending=True, stable=True)[:num_kept]


def _draw(generator: Generators, pairs: Pairs, num_rows: int) -> Float[Tensor, " p"]:
    """A number in (0, 1) of each pair, scrambled from one of each of its rows and from how often it came before.

    A plain sum of the two would tie pairs together that share rows: of (0, 1), (1, 2), (2, 0) any two would give the
    third.
    """
    if isinstance(generator, torch.Generator):
        rows = torch.randint(2**62, (num_rows,), generator=generator, device=generator.device).cpu().numpy()
    else:
        rows = np.array([int(torch.randint(2**62, (), generator=one, device=one.device)) for one in generator])
    chosen, rejected = rows.astype(np.uint64)[pairs.cpu().numpy()].T
    before: Counter[tuple[int, ...]] = Counter()
    repeats = np.zeros(len(pairs), dtype=np.uint64)
    for index, pair in enumerate(map(tuple, pairs.tolist())):
        repeats[index] = before[pair]
        before[pair] += 1
    mixed = _scramble(_scramble(_scramble(chosen) ^ rejected) ^ repeats)
    return torch.from_numpy(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def _scramble(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the result depends on every bit of `number`."""
    number = number + np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))
