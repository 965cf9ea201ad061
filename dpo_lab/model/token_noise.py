"""Tokens, or items, that are hidden from a model while it trains: to be guessed, and as noise."""

import torch
from jaxtyping import Bool
from torch import Tensor


def hidden_spans(
    may_be_hidden: Bool[Tensor, " r l"], share: float, length: int, generator: torch.Generator | None = None
) -> Bool[Tensor, " r l"]:
    """Which tokens are hidden: spans of `length`, that begin at random, so that each is hidden with about `share`.

    A token is hidden by any of the `length` places where a span over it may begin, each with probability
    1 - (1 - share)^(1 / length); at the beginning of a row there are fewer. What may not be hidden ends no span.

    Args:
        may_be_hidden: False for special tokens and padding.
        generator: None draws from the global one of the device, as dropout does.
    """
    begins_with = 1 - (1 - share) ** (1 / length)
    device = may_be_hidden.device if generator is None else generator.device
    begin = torch.rand(may_be_hidden.shape, generator=generator, device=device).to(may_be_hidden.device) < begins_with
    hidden = begin.clone()
    for shift in range(1, min(length, begin.shape[1])):
        hidden[:, shift:] |= begin[:, :-shift]
    return hidden & may_be_hidden
