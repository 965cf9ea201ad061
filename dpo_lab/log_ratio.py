"""Log-ratios of policy and reference, the quantity that every preference loss with a reference is made of."""

from jaxtyping import Float
from torch import Tensor

from dpo_lab.types import LogProbs


def log_ratio(policy: LogProbs, reference: LogProbs) -> Float[Tensor, " n"]:
    """log pi(y|x) - log pi_ref(y|x) of each response, in nats, summed over its decisions.

    Subtracted decision by decision before summing: two sums of several hundred nats would cancel to a
    difference with the rounding of the sums.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    return LogProbs(_difference(policy, reference), policy.mask).sum()


def mean_log_ratio(policy: LogProbs, reference: LogProbs) -> Float[Tensor, " n"]:
    """`log_ratio` divided by the number of decisions of the response, nats per decision.

    Raises:
        ValueError: when policy and reference score rows of another number or length.
    """
    return LogProbs(_difference(policy, reference), policy.mask).mean()


def _difference(policy: LogProbs, reference: LogProbs) -> Float[Tensor, " n t"]:
    """Decision by decision, nats. The reference is a constant, whatever it was computed from."""
    if policy.mask.shape != reference.mask.shape:
        raise ValueError(
            f"policy scores decisions of shape {tuple(policy.mask.shape)}, "
            f"the reference {tuple(reference.mask.shape)}: they must score the same rows"
        )
    return policy.token - reference.token.detach()
