"""Pairs laid out one after the other, for what a response is worth only beside the one that it is paired with."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpo_lab.types import LogProbs, Pairs


def rows_of(pairs: Pairs) -> Int[Tensor, " 2*p"]:
    """Rows of all chosen responses, then of all rejected ones; a response stands there once for each of its pairs."""
    return pairs.T.reshape(-1)


def laid_out(num_pairs: int, device: torch.device) -> Pairs:
    """The same pairs as indices into `rows_of`."""
    return torch.arange(2 * num_pairs, device=device).reshape(2, num_pairs).T


def weigh_tails(log_prob: LogProbs, pairs: Pairs, weight: float) -> LogProbs:
    """Log-probs of `rows_of(pairs)`, where the decisions past the length of the shorter response of a pair count
    `weight` each.

    >>> token = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, 0.0, 0.0]])
    >>> weigh_tails(LogProbs(token, token < 0), torch.tensor([[0, 1]]), 0.5).sum()
    tensor([-3.5000, -4.0000])
    """
    rows = rows_of(pairs)
    mask = log_prob.mask[rows]
    shared = mask.sum(-1).reshape(2, -1).amin(0).repeat(2)
    is_tail = mask.cumsum(-1) > shared[:, None]
    token = log_prob.token[rows]
    return LogProbs(torch.where(is_tail, weight * token, token), mask)


def mean_over_pairs(values: Float[Tensor, " s"], pairs: Pairs, otherwise: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Of each response the mean of its `values` in `rows_of(pairs)`; `otherwise` of a response in no pair."""
    rows = rows_of(pairs)
    num_pairs = torch.zeros_like(otherwise).index_add(0, rows, torch.ones_like(values))
    total = torch.zeros_like(otherwise).index_add(0, rows, values)
    return torch.where(num_pairs > 0, total / num_pairs.clamp(min=1), otherwise)
