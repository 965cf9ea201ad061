"""Reductions of whole distributions over the choices of a decision, for losses that look beyond the response itself.

A distribution is log-probabilities of every choice v, nats, -inf where a choice is impossible.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@final
class Choices:
    """The distribution at every decision of a batch, made from `source` when it is asked for.

    Over a large vocabulary it is made for some decisions at a time and once more on the way back, so that it is never
    held whole. `mask` says which decisions there are; `source` has a line for each of them, in order.
    """

    def __init__(
        self,
        source: Float[Tensor, " d h"],
        make: Callable[[Tensor], Tensor],
        mask: Bool[Tensor, " n t"],
        num_at_a_time: int,
    ):
        """`make` takes lines of `source` to their distributions, ``Float[c v]``."""
        self._source, self._make, self._mask = source, make, mask
        self._num_at_a_time = num_at_a_time

    @classmethod
    def held(cls, distribution: Float[Tensor, " n t v"], mask: Bool[Tensor, " n t"]) -> "Choices":
        """Those of a `distribution` that is there already."""
        return cls.of_decisions(distribution[mask], mask)

    @classmethod
    def of_decisions(cls, distribution: Float[Tensor, " d v"], mask: Bool[Tensor, " n t"]) -> "Choices":
        """The same, of a line for each decision."""
        return cls(distribution, _as_it_is, mask, max(1, len(distribution)))

    def reduce(self, reduction: Callable[..., Tensor], *constants: "Choices") -> Float[Tensor, " n t"]:
        """One number for each decision, 0 where there is none.

        Args:
            reduction: takes distributions ``Float[c v]`` of some decisions, these and then those of `constants`, to
                ``Float[c]``.
            constants: of the same batch; they take no gradient.
        """
        everyone = (self, *constants)
        num = min(choices._num_at_a_time for choices in everyone)
        parts = list(zip(*(choices._source.split(num) for choices in everyone), strict=True))

        def part(source: Tensor, *others: Tensor) -> Tensor:
            with torch.no_grad():
                made = [choices._make(other).detach() for choices, other in zip(constants, others, strict=True)]
            return reduction(self._make(source), *made)

        if len(parts) == 1 or not torch.is_grad_enabled():
            return scattered(torch.cat([part(*lines) for lines in parts]), self._mask)
        reduced = [_again_on_the_way_back(part, lines) for lines in parts]
        return scattered(torch.cat(reduced), self._mask)

    def dense(self) -> Float[Tensor, " n t v"]:
        """All of it at once; 0 where there is no decision."""
        return scattered(self._make(self._source), self._mask)


def scattered(flat: Float[Tensor, " d *v"], mask: Bool[Tensor, " n t"]) -> Float[Tensor, " n t *v"]:
    """A line of `flat` for each decision, put where `mask` is True, in order; 0 elsewhere."""
    there = mask.reshape(*mask.shape, *(1 for _ in flat.shape[1:]))
    return flat.new_zeros(*mask.shape, *flat.shape[1:]).masked_scatter(there, flat)


def log_collision(choices: Choices) -> Float[Tensor, " n t"]:
    """log sum_v pi(v)^2 of each decision, nats; 0 where there is none.

    >>> pi = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
    >>> log_collision(Choices.held(pi, torch.ones(1, 1, dtype=torch.bool))).exp().item()
    0.375
    """
    return choices.reduce(lambda distribution: torch.logsumexp(2 * distribution, dim=-1))


def sequential_kl(reference: Choices, policy: Choices) -> Float[Tensor, " n"]:
    """sum_t KL(reference || policy) over the decisions of each row, nats. The reference takes no gradient.

    Infinite where the policy rules out what the reference does not; a choice that the reference rules out adds nothing.
    """
    return policy.reduce(_kl_from, reference).sum(-1)


def _kl_from(policy: Tensor, reference: Tensor) -> Tensor:
    possible = reference > -torch.inf
    gap = torch.where(possible, reference, 0.0) - torch.where(possible, policy, 0.0)
    return (reference.exp() * gap).sum(-1)


def _again_on_the_way_back(part: Callable[..., Tensor], lines: Sequence[Tensor]) -> Tensor:
    reduced: Any = checkpoint(part, *lines, use_reentrant=False, preserve_rng_state=False)
    return reduced


def _as_it_is(distribution: Tensor) -> Tensor:
    return distribution
