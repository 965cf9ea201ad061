"""What every reference gives."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.reductions import Choices
from dpo_lab.types import LogProbs


class Reference(ABC):
    """Log-probabilities that the policy is measured against.

    `is_distribution`: whether they are those of a distribution, so that a divergence from it means something.
    `moves`: whether they change while the policy is trained (`MovingReference`).

    Not a torch module: the training module, its optimizer, `.train()` and checkpoints cannot see what it holds.
    """

    is_distribution: ClassVar[bool] = True
    moves: ClassVar[bool] = False

    @abstractmethod
    def log_prob(self, inputs: Inputs, key: Int[Tensor, " n 2"] | None = None) -> LogProbs:
        """Log-probability of every decision of every row, nats, without gradient.

        `key` is that of the rows (`PreferenceBatch.key`), under which a reference may know their log-probs already.
        Without it nothing is looked up: for rows that are met once, such as samples.
        """

    @abstractmethod
    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        """`log_prob`, and the log-probability of every choice v at every decision, nats, without gradient.

        Raises:
            TypeError: for a reference that is no distribution (`is_distribution`).
        """

    def as_policy(self) -> AbstractContextManager[Policy]:
        """The policy whose log-probabilities these are, to draw from while the block lasts and no longer.

        Raises:
            TypeError: for a reference that is no distribution (`is_distribution`).
        """
        raise TypeError(f"{type(self).__name__} is no distribution to draw from")

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Have it compute on `device`."""

    def rest(self) -> None:  # noqa: B027 - a reference that holds nothing of its own has nothing to do
        """Nothing is asked of it for a while: let go of device memory. It computes again after `to`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what it holds now; equal hashes give equal log-probabilities."""
