"""Alignment by optimal transport, of pairs: the policy's margins above the reference's, as distributions."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import whole_batch
from dpo_lab.ranges import BelowHalf, Positive
from dpo_lab.types import LogProbs, LossOutput, Pairs


@whole_batch
def aot(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: Positive = 0.1, label_smoothing: BelowHalf = 0.0
) -> LossOutput:
    """-(1 - e) log sigmoid(beta q) - e log sigmoid(-beta q), with q by how much quantiles of margins were raised.

    A margin is log p(chosen) - log p(rejected). The margins of all pairs of the optimizer step are sorted, the
    policy's and the reference's each by themselves, and q is the policy's minus the reference's, place by place: the
    policy's margins are to dominate as a distribution, not pair by pair. Source: Melnyk et al. 2024,
    arXiv 2406.05882, the paired form. TRL calls it `aot` too; its `aot_pair`, now `aot_unpaired`, is
    `aot_unpaired` here.

    One pair alone is `sigmoid`. Published code differs in what is sorted together: TRL sorts within the micro-batch
    of one device, so that a micro-batch of one trains `sigmoid`; here it is the whole optimizer step.

    Where margins tie, the earlier pair of the batch takes the lower place.

    Args:
        policy: n responses, nats.
        reference: the same rows, nats.
        pairs: p lines (chosen row, rejected row).
        beta: strength of the pull to the reference, per nat; larger keeps the margins closer to its own. In (0, inf).
        label_smoothing: bounds how far the distributions are driven apart: the probability of a flipped label, as in
            `sigmoid`. In [0, 0.5).

    Returns:
        loss in nats, one a place in the order of the sorted margins, as many as pairs, each of weight 1; ln 2 where
        policy equals reference. reward = beta * log-ratio summed over the response.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    ratio = log_ratio(policy, reference)
    shift = _sorted_margins(policy, pairs) - _sorted_margins(reference, pairs).detach()
    logits = beta * shift.to(ratio.dtype)
    loss = -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
    return LossOutput(loss=loss, weight=loss.new_ones(loss.shape), reward=beta * ratio.detach())


def _sorted_margins(log_prob: LogProbs, pairs: Pairs) -> Float[Tensor, " p"]:
    """log p(chosen) - log p(rejected) of each pair, nats, ascending.

    In float64: policy and reference meet only after summing, where float32 would leave the rounding of the sums.
    """
    total = LogProbs(log_prob.token.double(), log_prob.mask).sum()
    return (total[pairs[:, 0]] - total[pairs[:, 1]]).sort(stable=True).values
