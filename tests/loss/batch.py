"""One small batch whose responses have unequal lengths, and the reduction that a step applies to a loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpo_lab.needs import Objective
from dpo_lab.types import LogProbs, LossOutput

Rows = Sequence[Sequence[float]]

# Log-probs in nats. Row 0 has 3 decisions, row 1 has 1, row 2 has 2, row 3 has 4.
POLICY: Rows = ((-1.0, -0.5, -2.0), (-0.7,), (-3.0, -0.1), (-0.2, -0.4, -1.1, -2.3))
REFERENCE: Rows = ((-1.2, -0.4, -2.5), (-0.6,), (-2.0, -0.3), (-0.3, -0.8, -1.0, -2.0))
# Policy minus reference, summed: 0.2 - 0.1 + 0.5; -0.1; -1.0 + 0.2; 0.1 + 0.4 - 0.1 - 0.3.
RATIOS = (0.6, -0.1, -0.8, 0.1)
LENGTHS = (3, 1, 2, 4)
PAIRS = ((0, 1), (3, 2))
# Chosen minus rejected: 0.6 + 0.1; 0.1 + 0.8.
MARGINS = (0.7, 0.9)


def log_probs(rows: Rows, dtype: torch.dtype = torch.float64) -> LogProbs:
    """Rows of unequal length as a leaf tensor that takes a gradient."""
    width = max(len(row) for row in rows)
    token = torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=dtype)
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return LogProbs(token.requires_grad_(), mask)


@dataclass(frozen=True)
class Batch:
    """What an objective is given; `chosen` are the chosen rows of the pairs."""

    policy: LogProbs
    reference: LogProbs
    pairs: Tensor

    def ingredients(self) -> dict[str, object]:
        return {
            "policy": self.policy,
            "reference": self.reference,
            "pairs": self.pairs,
            "chosen": self.pairs[:, 0],
        }

    def with_pairs(self, pairs: Tensor) -> "Batch":
        return replace(self, pairs=pairs)


def make_batch(policy: Rows = POLICY, reference: Rows = REFERENCE, dtype: torch.dtype = torch.float64) -> Batch:
    return Batch(log_probs(policy, dtype), log_probs(reference, dtype), torch.tensor(PAIRS))


def margin_batch(margins: Sequence[float], dtype: torch.dtype = torch.float64) -> Batch:
    """One pair of one-token responses for each of `margins`, nats; the rejected response has log-ratio 0."""
    policy = [row for margin in margins for row in ([margin], [0.0])]
    reference = [[0.0]] * len(policy)
    pairs = torch.arange(len(policy)).reshape(-1, 2)
    return Batch(log_probs(policy, dtype), log_probs(reference, dtype), pairs)


def reduce(output: LossOutput) -> Tensor:
    return (output.loss * output.weight).sum() / output.weight.sum()


def total(objective: Objective, batch: Batch) -> Tensor:
    """The loss of a step: what the framework makes of an objective."""
    outputs = objective(batch.ingredients())
    return torch.stack([term.weight * reduce(outputs[term.name]) for term in objective.terms]).sum()


def gradient(loss: Tensor, log_prob: LogProbs) -> Tensor:
    """Of `loss` with respect to the log-probability of every decision."""
    (result,) = torch.autograd.grad(loss, log_prob.token, retain_graph=True)
    return result


def by_decision(per_row: Sequence[float]) -> Tensor:
    """A gradient that is the same at every decision of a row, and 0 beyond its end."""
    width = max(LENGTHS)
    rows = zip(per_row, LENGTHS, strict=True)
    return torch.tensor([[value] * num + [0.0] * (width - num) for value, num in rows], dtype=torch.float64)
