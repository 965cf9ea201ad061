"""Reductions of whole distributions over the choices of a decision, for losses that look beyond the response itself.

A distribution is ``Float[n t v]``: log-probability of every choice v at every decision, nats, -inf where a choice is
impossible.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def log_collision(distribution: Float[Tensor, " n t v"], mask: Bool[Tensor, " n t"]) -> Float[Tensor, " n t"]:
    """log sum_v pi(v)^2 of each decision, nats; 0 where `mask` is False.

    >>> log_collision(torch.tensor([[[0.5, 0.25, 0.25]]]).log(), torch.ones(1, 1, dtype=torch.bool)).exp().item()
    0.375
    """
    return torch.where(mask, torch.logsumexp(2 * distribution, dim=-1), 0.0)


def sequential_kl(
    reference: Float[Tensor, " n t v"], policy: Float[Tensor, " n t v"], mask: Bool[Tensor, " n t"]
) -> Float[Tensor, " n"]:
    """sum_t KL(reference || policy) over the decisions of each row, nats. The reference takes no gradient.

    Infinite where the policy rules out what the reference does not; a choice that the reference rules out adds nothing.
    """
    reference = reference.detach()
    possible = reference > -torch.inf
    gap = torch.where(possible, reference, 0.0) - torch.where(possible, policy, 0.0)
    per_decision = (reference.exp() * gap).sum(-1)
    return torch.where(mask, per_decision, 0.0).sum(-1)
