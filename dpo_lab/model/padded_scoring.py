"""Log-probs row by row: rows padded on the right, and the whole pass of the model over them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.policy import Inputs
from dpo_lab.reductions import Choices
from dpo_lab.types import Encoded, LogProbs


def collate_padded(groups: Sequence[Encoded]) -> Inputs:
    """Right-padded `input_ids[n, l]` and `attention_mask[n, l]`, and where each row's response lies.

    Raises:
        ValueError: for a prompt or a response without tokens: the first decision is made at the prompt's last.
    """
    rows = [(group.prompt, response) for group in groups for response in group.responses]
    if not all(prompt and response for prompt, response in rows):
        raise ValueError("a prompt and each of its responses need at least one token")
    width = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, (prompt, response) in enumerate(rows):
        ids = torch.tensor([*prompt, *response], dtype=torch.long)
        input_ids[index, : len(ids)] = ids
        attention_mask[index, : len(ids)] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "response_start": torch.tensor([len(prompt) for prompt, _ in rows]),
        "response_length": torch.tensor([len(response) for _, response in rows]),
    }


def padded_log_prob(model: Any, inputs: Inputs) -> LogProbs:
    """Log-probability of every decision, float32 or wider, nats; of what `collate_padded` gave."""
    decided, target, mask = _decide(model, inputs)
    with torch.autocast(device_type=target.device.type, enabled=False):
        token = decided.gather(-1, target[..., None]).squeeze(-1) - torch.logsumexp(decided, dim=-1)
    return LogProbs(torch.where(mask, token, 0.0), mask)


def padded_choices(model: Any, inputs: Inputs) -> tuple[LogProbs, Choices]:
    """What `padded_log_prob` gives, and the log-probability of every choice at every decision, nats."""
    decided, target, mask = _decide(model, inputs)
    with torch.autocast(device_type=target.device.type, enabled=False):
        distribution = torch.log_softmax(decided, dim=-1)
        token = distribution.gather(-1, target[..., None]).squeeze(-1)
    return LogProbs(torch.where(mask, token, 0.0), mask), Choices.held(distribution, mask)


def _decide(model: Any, inputs: Inputs) -> tuple[Float[Tensor, " n t v"], Int[Tensor, " n t"], Bool[Tensor, " n t"]]:
    """Logits of every decision in float32 or wider, the token taken there, and which decisions there are."""
    input_ids, attention_mask = inputs["input_ids"], inputs["attention_mask"]
    # No position_ids: some models count from 2 or from the padding id, and right padding moves no position.
    logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    mask = decision_mask(inputs["response_length"])
    steps = torch.arange(mask.shape[1], device=mask.device)
    target_at = torch.where(mask, inputs["response_start"][:, None] + steps, 1)
    target = input_ids.gather(1, target_at)
    # The token at position i is decided by the logits at i - 1.
    decided = logits.gather(1, (target_at - 1)[..., None].expand(-1, -1, logits.shape[-1]))
    return decided.to(torch.promote_types(decided.dtype, torch.float32)), target, mask
