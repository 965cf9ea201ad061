"""Which decisions a row has."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def decision_mask(response_length: Int[Tensor, " n"]) -> Bool[Tensor, " n t"]:
    """True where a row has a decision: one for each token of its response, t up to the longest.

    >>> decision_mask(torch.tensor([1, 2])).tolist()
    [[True, False], [True, True]]
    """
    longest = int(response_length.max())
    return torch.arange(longest, device=response_length.device)[None] < response_length[:, None]
