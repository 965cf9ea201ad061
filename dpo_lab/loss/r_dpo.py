"""Length-regularised DPO."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import comes_to
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


@comes_to("sigmoid", of_same="length")
def r_dpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1, alpha: float = 0.01
) -> LossOutput:
    """-log sigmoid(beta h + alpha (|chosen| - |rejected|)), with h the chosen minus the rejected log-ratio.

    Source: Park et al. 2024, arXiv 2403.19159. A response of |y| tokens is fined alpha |y|: the optimum of
    E[r - alpha |y|] - beta KL has r = beta log-ratio + alpha |y| + a constant of the prompt, whence the plus sign. So
    of the reward that a preference shows, alpha a token is put down to length, and a pair whose chosen response is
    the longer one pushes less.

    Restatements of this loss differ in the sign of the term; with a minus sign it would reward length. A negative
    alpha gives it. alpha 0 is `sigmoid`.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat; larger keeps the policy closer to it. In (0, inf).
        alpha: fine a token, in units of reward; larger gives shorter responses. Any finite number.

    Returns:
        loss in nats, one a pair, each of weight 1. reward = beta * log-ratio + alpha * length: what the loss compares.
    """
    reward = beta * log_ratio(policy, reference) + alpha * policy.length()
    loss = -logsigmoid(reward[pairs[:, 0]] - reward[pairs[:, 1]])
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach())
