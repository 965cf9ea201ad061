"""A reference that never moves."""

import copy
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, final

import torch
from jaxtyping import Int
from torch import Tensor

from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.ranges import NonNegativeInt
from dpo_lab.reductions import Choices
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.reference import Reference
from dpo_lab.types import LogProbs

Cache = Literal["auto", "off", "require"]


def frozen(
    policy: Policy,
    cache_dir: Path | None = None,
    precision: str = "32-true",
    *,
    path: str | None = None,
    cache: Cache = "auto",
    verify_rows: NonNegativeInt = 2,
) -> Reference:
    """The policy as it was built from the config, or another named model.

    Args:
        policy: the policy before its first update; the framework gives it.
        cache_dir: where log-probs are kept; the framework gives it. None keeps none.
        precision: of the trainer, on which the log-probs depend; the framework gives it.
        path: folder or hub name of another model with the same tokenizer; null copies the policy.
        cache: "auto" computes each response once for all runs and keeps it under `cache_dir`; "off" computes it
            whenever it is met and reads and writes no file; "require" stops the run where a response is missing.
        verify_rows: cached responses, drawn at random, that are computed again before training; more finds a wrong
            cache more surely. Not needed, and not done, where the reference is the initial policy: there the
            log-ratios before the first update are checked anyway.

    Raises:
        UserError: when the named model cannot be had or has another tokenizer.
    """
    held = copy.deepcopy(policy) if path is None else policy.load_other(path)
    reference = FrozenReference(held)
    if cache_dir is None or cache == "off":
        return reference
    return CachedReference(
        reference, held, cache_dir, precision=precision, is_required=cache == "require", verify_rows=verify_rows
    )


@final
class FrozenReference(Reference):
    """Holds a copy in evaluation mode (no dropout) whose tensors take no gradient.

    `num_forward_passes` counts those over rows of the data; samples are apart.
    """

    def __init__(self, policy: Policy):
        self._policy = policy.eval().requires_grad_(False)
        self.num_forward_passes = 0

    @torch.no_grad()
    def log_prob(self, inputs: Inputs, key: Int[Tensor, " n 2"] | None = None) -> LogProbs:
        self.num_forward_passes += key is not None
        return self._policy.log_prob(inputs)

    @torch.no_grad()
    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        self.num_forward_passes += 1
        return self._policy.log_prob_and_choices(inputs)

    def as_policy(self) -> AbstractContextManager[Policy]:
        return nullcontext(self._policy)

    def to(self, device: torch.device) -> None:
        self._policy.to(device)

    def rest(self) -> None:
        self._policy.to("cpu")

    def fingerprint(self) -> str:
        """Of what it computes: a fresh adapter has random weights, and changes no number of the model below."""
        adapter = self._policy.adapter
        if adapter is not None and adapter.is_zero():
            return adapter.base_fingerprint()
        return self._policy.fingerprint()
