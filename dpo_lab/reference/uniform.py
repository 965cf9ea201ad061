"""No reference: "reference-free" preference optimisation."""

from typing import ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.reductions import Choices
from dpo_lab.reference.reference import Reference
from dpo_lab.types import LogProbs


def uniform(policy: Policy) -> "UniformReference":
    """Log-prob 0 for every decision, so that a log-ratio is the policy's own log-probability.

    The constant of a uniform distribution is left out, as in the original code's ``reference_free``; between
    responses of different lengths that constant would matter.
    """
    return UniformReference(policy)


@final
class UniformReference(Reference):
    """Holds nothing; asks the policy only which decisions there are."""

    is_distribution: ClassVar[bool] = False

    def __init__(self, policy: Policy):
        self._decision_mask = policy.decision_mask

    @torch.no_grad()
    def log_prob(self, inputs: Inputs, key: Int[Tensor, " n 2"] | None = None) -> LogProbs:
        mask = self._decision_mask(inputs)
        return LogProbs(torch.zeros(mask.shape, device=mask.device), mask)

    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        raise TypeError("reference=uniform is no distribution over the choices of a decision")

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def fingerprint(self) -> str:
        return "uniform"
