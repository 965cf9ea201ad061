"""Noise contrastive alignment for pairs."""

from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.ranges import Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def nca(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1) -> LossOutput:
    """-log sigmoid(beta a) - log sigmoid(-beta a) / 2 - log sigmoid(-beta b) / 2, with a, b the log-ratios of a pair.

    a is that of the chosen response, b that of the rejected one. Source: Chen et al. 2024 (NCA), arXiv 2402.05369,
    for two responses, of which one is preferred; as in the authors' repository, TRL and Liger. It acts on each
    likelihood by itself: the chosen reward beta a has its minimum at ln 2, where -log sigmoid(x) and half of
    -log sigmoid(-x) balance; the rejected one falls without end.

    The authors' runs are at beta 0.01, by TRL's index of papers.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: reward per nat of log-ratio, the inverse of the paper's temperature of rewards; larger keeps the policy
            closer to the reference. In (0, inf).

    Returns:
        loss in nats, one a pair, each of weight 1; 2 ln 2 where policy equals reference. reward = beta * log-ratio
        summed over the response.
    """
    reward = beta * log_ratio(policy, reference)
    chosen, rejected = reward[pairs[:, 0]], reward[pairs[:, 1]]
    loss = -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach())
