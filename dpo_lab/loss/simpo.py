"""Simple preference optimisation: likelihood per token, no reference."""

from torch.nn.functional import logsigmoid

from dpo_lab.ranges import BelowHalf, NonNegative, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


def simpo(
    policy: LogProbs,
    pairs: Pairs,
    *,
    beta: Positive = 2.0,
    gamma: NonNegative = 0.5,
    label_smoothing: BelowHalf = 0.0,
) -> LossOutput:
    """-(1 - e) log sigmoid(z) - e log sigmoid(-z), z = beta (p chosen - p rejected) - gamma, p log-prob per token.

    Source: Meng et al. 2024, arXiv 2405.14734, the SimPO objective; label_smoothing e as in the authors' repository.

    Published code differs in the parameter: here gamma is in units of reward, as in the paper, TRL and LLaMA-Factory.
    The authors' repository, HALOs and open-instruct set gamma / beta, in nats a token: their (beta 2, 0.25) is
    (beta 2, gamma 0.5) here. Their beta go from 0.1 to 10. Some add the likelihood of the chosen response: `mix`.

    Args:
        policy: n responses, nats.
        pairs: p lines (chosen row, rejected row).
        beta: reward per nat a token; larger steepens the loss and makes the margin sought, gamma / beta nats a token,
            smaller. In (0, inf).
        gamma: margin of reward sought; larger pushes further. In [0, inf).
        label_smoothing: e, the probability that a label is flipped. In [0, 0.5).

    Returns:
        loss in nats, one a pair, each of weight 1. reward = beta * log-probability per token.
    """
    reward = beta * policy.mean()
    logits = reward[pairs[:, 0]] - reward[pairs[:, 1]] - gamma
    loss = -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=reward.detach())
