"""A reference that never moves."""

import copy
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.reference.reference import Reference
from dpo_lab.types import LogProbs


def frozen(policy: Policy, *, path: str | None = None) -> "FrozenReference":
    """The policy as it was built from the config, or another named model.

    Args:
        policy: the policy before its first update; the framework gives it.
        path: folder or hub name of another model with the same tokenizer; null copies the policy.

    Raises:
        UserError: when the named model cannot be had or has another tokenizer.
    """
    return FrozenReference(copy.deepcopy(policy) if path is None else policy.load_other(path))


@final
class FrozenReference(Reference):
    """Holds a copy in evaluation mode (no dropout) whose tensors take no gradient."""

    def __init__(self, policy: Policy):
        self._policy = policy.eval().requires_grad_(False)

    @torch.no_grad()
    def log_prob(self, inputs: Inputs) -> LogProbs:
        return self._policy.log_prob(inputs)

    @torch.no_grad()
    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        return self._policy.log_prob_and_distribution(inputs)

    def to(self, device: torch.device) -> None:
        self._policy.to(device)

    def fingerprint(self) -> str:
        return self._policy.fingerprint()
