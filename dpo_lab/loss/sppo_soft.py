"""Self-play preference optimisation with the probabilities of a preference model."""

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs, WinProbability


def sppo_soft(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, win_probability: WinProbability, *, beta: Positive = 0.1
) -> LossOutput:
    """(a - (p - 1/2) / beta)^2 + (b - (1/2 - p) / beta)^2, with a the chosen and b the rejected log-ratio.

    p is the probability that the chosen response is the better one; with p = 1 this is `sppo`. Source: Wu et al. 2024,
    arXiv 2405.00675, equation 4.7; 1 / beta is the paper's eta. The reference is the policy of the round before.

    Published code differs by a factor, as for `sppo`: the authors' repository takes half of the sum. Its default loss
    takes two probabilities, of the chosen and of the rejected response to win against the responses sampled for the
    prompt; its `sppo_single` takes one a pair, as here.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        win_probability: of each pair, in [0, 1]; below 1/2 the pair is held to be the wrong way round.
        beta: the log-ratios sought are at most 1 / (2 beta) nats away from 0, so a larger beta stays closer to the
            reference. In (0, inf).

    Returns:
        loss in nats squared, one a pair, each of weight 1; 2 ((p - 1/2) / beta)^2 where policy equals reference.
        reward = beta * log-ratio summed over the response, so that those sought are +-(p - 1/2).

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    target = (win_probability.to(ratio) - 0.5) / beta
    loss = (ratio[pairs[:, 0]] - target) ** 2 + (ratio[pairs[:, 1]] + target) ** 2
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
