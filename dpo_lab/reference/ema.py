"""A reference that follows the policy as a moving average of its weights."""

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.ranges import Fraction, PositiveInt
from dpo_lab.reductions import Choices
from dpo_lab.reference.moving import MovingReference
from dpo_lab.types import LogProbs


def ema(policy: Policy, *, decay: Fraction = 0.99, every: PositiveInt = 1) -> "EmaReference":
    """Starts as the policy and follows it: after every `every`-th optimizer step, weight by weight,

        reference <- decay * reference + (1 - decay) * policy.

    Trust-region DPO (Gorbatovski et al. 2024, arXiv 2404.09656) with alpha = 1 - decay and tau = every. Its soft update
    mixes, its hard update copies the policy every tau steps, which is ``decay=0``. TRL's ``sync_ref_model`` does both
    at once, by default alpha 0.6 and tau 512: ``decay=0.4 every=512``. HALOs' ``sync_reference`` copies before each
    update instead of after it, so that its reference is one update older than here with ``decay=0 every=1``.

    Args:
        policy: the policy before its first update; the framework gives it.
        decay: what is kept of the reference, in [0, 1): nearer 1 follows more slowly, 0 is a copy of the policy.
        every: optimizer steps between two moves; more follows more slowly. In a run that is shorter it never moves.
    """
    return EmaReference(policy, decay=decay, every=every)


@final
class EmaReference(MovingReference):
    """Holds a copy in evaluation mode. Only weights that are trained move, so only they are its state.

    Averages are float32 or wider: in bfloat16 a small share of a small change would round to nothing.
    """

    def __init__(self, policy: Policy, *, decay: float, every: int):
        self._decay = decay
        self._every = every
        trained = {name for name, tensor in policy.named_parameters() if tensor.requires_grad}
        self._policy = copy.deepcopy(policy).eval().requires_grad_(False)
        self._held: dict[str, nn.Parameter] = {
            name: tensor for name, tensor in self._policy.named_parameters() if name in trained
        }
        self._wide = {name: tensor.float() for name, tensor in self._held.items() if _is_narrow(tensor)}
        self.num_forward_passes = 0

    @torch.no_grad()
    def log_prob(self, inputs: Inputs, key: Int[Tensor, " n 2"] | None = None) -> LogProbs:
        self.num_forward_passes += key is not None
        return self._policy.log_prob(inputs)

    @torch.no_grad()
    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        self.num_forward_passes += 1
        return self._policy.log_prob_and_choices(inputs)

    @torch.no_grad()
    def follow(self, policy: Policy, step: int) -> None:
        if step % self._every:
            return
        now = dict(policy.named_parameters())
        averages = self.state()
        for name, tensor in averages.items():
            tensor.lerp_(now[name].detach().to(tensor.dtype), 1 - self._decay)
        self._round()

    def state(self) -> dict[str, Tensor]:
        """The averages themselves, not copies."""
        return {name: self._wide.get(name, tensor.detach()) for name, tensor in self._held.items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self._round()

    def _round(self) -> None:
        for name, tensor in self._wide.items():
            self._held[name].copy_(tensor)

    def as_policy(self) -> AbstractContextManager[Policy]:
        return nullcontext(self._policy)

    def to(self, device: torch.device) -> None:
        self._policy.to(device)
        self._wide = {name: tensor.to(device) for name, tensor in self._wide.items()}

    def fingerprint(self) -> str:
        return self._policy.fingerprint()


def _is_narrow(tensor: Tensor) -> bool:
    return torch.promote_types(tensor.dtype, torch.float32) != tensor.dtype
