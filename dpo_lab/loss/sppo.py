"""Self-play preference optimisation with hard labels."""

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def sppo(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1) -> LossOutput:
    """(a - 1 / (2 beta))^2 + (b + 1 / (2 beta))^2, with a the chosen and b the rejected log-ratio.

    Source: Wu et al. 2024, arXiv 2405.00675, equation 4.7 with the probability of winning put to 1 for the chosen
    and to 0 for the rejected response; 1 / beta is the paper's eta. The reference is the policy of the round before.

    Published code differs by a factor: TRL and Liger as here; the authors' repository takes half of the sum, and
    probabilities from a preference model.

    The authors' runs are at a far smaller beta: eta is 1000, that is beta 0.001.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: the log-ratios sought are +-1 / (2 beta) nats, so a larger beta stays closer to the reference.
            In (0, inf).

    Returns:
        loss in nats squared, one a pair, each of weight 1; 1 / (2 beta^2) where policy equals reference. reward =
        beta * log-ratio summed over the response, so that those sought are +-1/2.
    """
    ratio = log_ratio(policy, reference)
    target = 1 / (2 * beta)
    loss = (ratio[pairs[:, 0]] - target) ** 2 + (ratio[pairs[:, 1]] + target) ** 2
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())
