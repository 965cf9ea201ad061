"""Down-sampled DPO: of the longer response only as many random tokens count as the shorter one has."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import comes_to
from dpo_lab.pair_rows import mean_over_pairs, rows_of
from dpo_lab.ranges import Positive
from dpo_lab.types import Generators, LogProbs, LossOutput, Pairs


@comes_to("sigmoid", of_same="length")
def sampo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, generator: Generators, *, beta: Positive = 0.1
) -> LossOutput:
    """-log sigmoid(beta (a - b)), a and b log-ratios over K random tokens each, K the length of the shorter response.

    Source: Lu et al. 2024, arXiv 2406.10957. The K tokens are drawn uniformly and without replacement; of the shorter
    response they are all of its tokens, and of two equally long ones the loss is `sigmoid`. Policy and reference are
    summed over the same tokens. In the authors' code the reference has a draw of its own, so that the margin is not
    0 there where policy equals reference.

    The draw of a row depends on its own generator and length alone, not on padding, on other rows or on the order of
    rows. A row in several pairs has one order, of which a pair takes the first K tokens.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        generator: one a row, or one from which the rows draw in turn. A row draws as many numbers as it has tokens.
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).

    Returns:
        loss in nats, one a pair, each of weight 1; ln 2 where policy equals reference. reward = beta * log-ratio over
        the tokens drawn, averaged over the pairs that a response is in; over all tokens for a response in none.

    Raises:
        ValueError: when policy and reference score rows of another number or length, and when there is another
            number of generators than of rows.
    """
    ratio, rows = log_ratio(policy, reference), rows_of(pairs)
    num_drawn = policy.mask.sum(-1)[pairs].amin(-1).repeat(2)
    is_drawn = policy.mask[rows] & (_places(policy, generator)[rows] < num_drawn[:, None])
    drawn = log_ratio(LogProbs(policy.token[rows], is_drawn), LogProbs(reference.token[rows], is_drawn))
    chosen, rejected = drawn.reshape(2, -1)
    loss = -logsigmoid(beta * (chosen - rejected))
    reward = mean_over_pairs(beta * drawn.detach(), pairs, beta * ratio.detach())
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward)


def _places(policy: LogProbs, generator: Generators) -> Int[Tensor, " n t"]:
    """Place of each token in a random order of its row's tokens, from 0; masked positions come last."""
    mask = policy.mask.cpu()
    generators = generator if isinstance(generator, Sequence) else [generator] * len(mask)
    numbers = torch.full(mask.shape, 2.0, dtype=torch.float64)
    for row, (counts, one) in enumerate(zip(mask, generators, strict=True)):
        length = int(counts.sum())
        numbers[row, counts] = torch.rand(length, generator=one, device=one.device, dtype=numbers.dtype).cpu()
    return numbers.argsort(dim=-1, stable=True).argsort(dim=-1).to(policy.mask.device)
