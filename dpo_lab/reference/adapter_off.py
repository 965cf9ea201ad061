"""The policy without its adapter as its own reference: no second model is held."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from dpo_lab.errors import UserError
from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.ranges import NonNegativeInt
from dpo_lab.reductions import Choices
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import Cache
from dpo_lab.reference.reference import Reference
from dpo_lab.types import LogProbs

Start = Literal["base", "adapter"]


def adapter_off(
    policy: Policy,
    cache_dir: Path | None = None,
    precision: str = "32-true",
    *,
    start: Start | None = None,
    cache: Cache = "auto",
    verify_rows: NonNegativeInt = 2,
) -> Reference:
    """The model that the policy's LoRA adapter stands on, or that model with the adapter that training started from.

    Where training starts from an adapter that was trained before, these are two references, and published code takes
    either without a word: the first pulls the policy back to before that training, the second to where it starts.

    Args:
        policy: the policy before its first update, with an adapter; the framework gives it.
        cache_dir: as in `frozen`; the framework gives it.
        precision: as in `frozen`; the framework gives it.
        start: "base" is the model without adapter; "adapter" keeps a copy of the adapter that training starts from,
            and of nothing else. Null: the base, which a fresh adapter leaves as it is. Must be said for an adapter
            that was trained before.
        cache: as in `frozen`. The log-probs of a base model are those of ``frozen`` on that model: one cache.
        verify_rows: as in `frozen`.

    Raises:
        UserError: the policy has no adapter, or one that was trained before and `start` is null.
    """
    adapter = policy.adapter
    if adapter is None:
        raise UserError(NO_ADAPTER)
    if adapter.is_trained and start is None:
        raise UserError(WHICH_START)
    reference = AdapterOffReference(policy, keeps_start=start == "adapter")
    if cache_dir is None or cache == "off":
        return reference
    return CachedReference(
        reference, policy, cache_dir, precision=precision, is_required=cache == "require", verify_rows=verify_rows
    )


NO_ADAPTER = (
    "reference=adapter_off: the policy has no adapter to switch off; give it one with model.lora_rank, or take "
    "reference=frozen"
)
WHICH_START = (
    "reference=adapter_off: training starts from an adapter that was trained before; say what the reference is: "
    "reference.start=base (the model without it) or reference.start=adapter (a copy of it as it is now)"
)


@final
class AdapterOffReference(Reference):
    """Runs the policy itself, in evaluation mode and without gradient, and leaves it as it found it.

    It holds nothing but, where `keeps_start`, a copy of the adapter. A graph of the policy may be alive meanwhile.
    """

    def __init__(self, policy: Policy, *, keeps_start: bool):
        assert policy.adapter is not None
        self._policy = policy
        self._adapter = policy.adapter
        self._modules = list(policy.modules())
        self._start = (
            {name: _still(tensor) for name, tensor in self._adapter.tensors().items()} if keeps_start else None
        )
        self.num_forward_passes = 0

    @torch.no_grad()
    def log_prob(self, inputs: Inputs, key: Int[Tensor, " n 2"] | None = None) -> LogProbs:
        self.num_forward_passes += key is not None
        with self._evaluating(), self._exchanged():
            return self._policy.log_prob(inputs)

    @torch.no_grad()
    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        self.num_forward_passes += 1
        # What is made of it later passes the output head alone, which never has an adapter.
        with self._evaluating(), self._exchanged():
            return self._policy.log_prob_and_choices(inputs)

    @contextmanager
    def as_policy(self) -> Iterator[Policy]:
        with self._evaluating(), self._exchanged():
            yield self._policy

    def _exchanged(self) -> AbstractContextManager[None]:
        return self._adapter.off() if self._start is None else self._adapter.replaced_by(self._start)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode; afterwards each module is in the mode that it was in."""
        training = [vars(module) for module in self._modules if module.training]
        try:
            # Past torch's own assignment, which is slow, while there may be thousands of modules.
            for own in training:
                own["training"] = False
            yield
        finally:
            for own in training:
                own["training"] = True

    def to(self, device: torch.device) -> None:
        self._policy.to(device)
        if self._start is not None:
            self._start = {name: _still(tensor.to(device)) for name, tensor in self._start.items()}

    def fingerprint(self) -> str:
        if self._start is None:
            return self._adapter.base_fingerprint()
        with self._adapter.replaced_by(self._start):
            return self._policy.fingerprint()


def _still(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)
