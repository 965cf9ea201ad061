"""What every reference gives."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.model.policy import Inputs
from dpo_lab.types import LogProbs


class Reference(ABC):
    """Log-probabilities that the policy is measured against.

    `is_distribution`: whether they are those of a distribution, so that a divergence from it means something.

    Not a torch module: the training module, its optimizer, `.train()` and checkpoints cannot see what it holds.
    """

    is_distribution: ClassVar[bool] = True

    @abstractmethod
    def log_prob(self, inputs: Inputs) -> LogProbs:
        """Log-probability of every decision of every row, nats, without gradient."""

    @abstractmethod
    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        """`log_prob`, and the log-probability of every choice v at every decision, nats, without gradient.

        Raises:
            TypeError: for a reference that is no distribution (`is_distribution`).
        """

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move what it holds to `device`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what it holds now; equal hashes give equal log-probabilities."""
