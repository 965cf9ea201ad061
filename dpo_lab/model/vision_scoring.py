"""Log-probs of a model that sees: rows padded on the right, and the head on the columns that decide anything."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.policy import Inputs
from dpo_lab.reductions import Choices, scattered
from dpo_lab.types import Encoded, LogProbs

OURS = frozenset({"prompt_length", "response_length", "target"})
"""Inputs that are not the model's."""


def rows_of(groups: Sequence[Encoded]) -> list[tuple[int, ...]]:
    """What the model reads for each response: the prompt, and the response without its last token.

    That one is decided and decides nothing.

    Raises:
        ValueError: for a prompt or a response without tokens: the first decision is made at the prompt's last.
    """
    if not all(group.prompt and all(group.responses) for group in groups):
        raise ValueError("a prompt and each of its responses need at least one token")
    return [(*group.prompt, *response[:-1]) for group in groups for response in group.responses]


def collate_texts(groups: Sequence[Encoded]) -> Inputs:
    """`input_ids[n, l]` and `attention_mask[n, l]`, padded on the right; `prompt_length[n]`; `target[n, t]`, the tokens
    of each response; `response_length[n]`.

    Raises:
        ValueError: as of `rows_of`.
    """
    rows = rows_of(groups)
    responses = [response for group in groups for response in group.responses]
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    return {
        "input_ids": right_padded(rows),
        "attention_mask": (torch.arange(width)[None] < lengths[:, None]).long(),
        "prompt_length": torch.tensor([len(group.prompt) for group in groups for _ in group.responses]),
        "target": right_padded(responses),
        "response_length": torch.tensor([len(response) for response in responses]),
    }


def right_padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids, zeros behind the end of the shorter ones."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def vision_log_prob(model: Any, inputs: Inputs) -> LogProbs:
    """Log-probability of every decision, float32 or wider, nats; of what `collate_texts` gave, and pixels."""
    logits = _decide(model, inputs)
    mask = decision_mask(inputs["response_length"])
    with torch.autocast(device_type=mask.device.type, enabled=False):
        flat = -cross_entropy(logits, inputs["target"][mask], reduction="none")
    return LogProbs(scattered(flat, mask), mask)


def vision_choices(model: Any, inputs: Inputs) -> tuple[LogProbs, Choices]:
    """What `vision_log_prob` gives, and the log-probability of every choice at every decision, nats."""
    logits = _decide(model, inputs)
    mask = decision_mask(inputs["response_length"])
    with torch.autocast(device_type=mask.device.type, enabled=False):
        flat = logits.log_softmax(-1)
    token = flat.gather(-1, inputs["target"][mask][:, None])[:, 0]
    return LogProbs(scattered(token, mask), mask), Choices.of_decisions(flat, mask)


def as_read(model: Any, inputs: Inputs) -> Inputs:
    """The inputs that are the model's; of them what is no integer, as pixels are, in its own precision."""
    return {
        name: tensor.to(model.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in inputs.items()
        if name not in OURS
    }


def _decide(model: Any, inputs: Inputs) -> Float[Tensor, " d v"]:
    """Logits of every decision, row by row, float32 or wider."""
    mask = decision_mask(inputs["response_length"])
    # The token at position i is decided by the logits at i - 1.
    columns = (inputs["prompt_length"][:, None] - 1 + torch.arange(mask.shape[1], device=mask.device))[mask]
    kept, place = columns.unique(return_inverse=True)
    given = as_read(model, inputs)
    if "logits_to_keep" in signature(model.forward).parameters:
        logits = model(**given, use_cache=False, logits_to_keep=kept).logits
    else:
        logits = model(**given, use_cache=False).logits[:, kept]
    row = torch.arange(len(mask), device=mask.device)[:, None].expand_as(mask)[mask]
    decided = logits[row, place]
    return decided.to(torch.promote_types(decided.dtype, torch.float32))
