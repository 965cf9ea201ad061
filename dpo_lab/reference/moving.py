"""A reference that follows the policy."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from dpo_lab.model.policy import Policy
from dpo_lab.reference.reference import Reference


class MovingReference(Reference):
    """What it holds is a state of training: it changes after optimizer steps, and checkpoints keep it."""

    moves: ClassVar[bool] = True

    @abstractmethod
    def follow(self, policy: Policy, step: int) -> None:
        """Move towards `policy`, which has just made its update number `step`, counted from 1."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that it would need to go on exactly from here, beside the policy that it was built from."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
