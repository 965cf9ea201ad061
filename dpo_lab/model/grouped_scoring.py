"""Log-probs of packed groups: the layout of a row, and the pass over it with the head on decided positions only."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.flex_attention import Kernel, RowMasks
from dpo_lab.model.grouped_attention import grouped_attention
from dpo_lab.model.policy import Inputs
from dpo_lab.model.spans import PackedRow, read_spans
from dpo_lab.reductions import Choices, scattered
from dpo_lab.types import Encoded, LogProbs

HEAD_BYTES = 2**28
"""Logits held at a time, in float32. More are computed in chunks, and once more in the backward pass."""

HEAD_BYTES_ON_GPU = 2**30
"""The same on a GPU, which reads the head's weights anew for each chunk, and is done with a small one too soon."""


def collate_groups(groups: Sequence[Encoded], *, is_shared: bool) -> Inputs:
    """One row of tokens for all responses of all groups, without padding.

    With `is_shared` a group stands there as its prompt and all its responses, else its prompt stands before each of
    them. The last token of a response is decided and decides nothing, so it is not in the row.

    Returns `input_ids[1, l]`, `position_ids[1, l]`; `spans[n, 4]` of each response (`Span`); `decided_at[d]` and
    `target[d]`, for each decision the position whose output decides it and the token taken; `response_length[n]`.

    Raises:
        ValueError: for a prompt or a response without tokens: the first decision is made at the prompt's last.
    """
    token_ids: list[int] = []
    positions: list[int] = []
    spans: list[tuple[int, int, int, int]] = []
    decided_at: list[int] = []
    target: list[int] = []
    for group in groups:
        if not group.prompt or not all(group.responses):
            raise ValueError("a prompt and each of its responses need at least one token")
        prompt_at, num_prompt = len(token_ids), len(group.prompt)
        for number, response in enumerate(group.responses):
            if number == 0 or not is_shared:
                prompt_at = len(token_ids)
                token_ids += group.prompt
                positions += range(num_prompt)
            response_at, num_inputs = len(token_ids), len(response) - 1
            token_ids += response[:-1]
            positions += range(num_prompt, num_prompt + num_inputs)
            spans.append((prompt_at, num_prompt, response_at, num_inputs))
            decided_at += [prompt_at + num_prompt - 1, *range(response_at, response_at + num_inputs)]
            target += response
    return {
        "input_ids": torch.tensor([token_ids]),
        "position_ids": torch.tensor([positions]),
        "spans": torch.tensor(spans),
        "decided_at": torch.tensor(decided_at),
        "target": torch.tensor(target),
        "response_length": torch.tensor([line[3] + 1 for line in spans]),
    }


def ungroup(inputs: Inputs) -> list[Encoded]:
    """Each response as a group of its own, read back from what `collate_groups` gave."""
    token_ids, target = inputs["input_ids"][0].tolist(), inputs["target"].tolist()
    encoded, first = [], 0
    for span in read_spans(inputs["spans"]):
        num_decisions = span.response_length + 1
        prompt = tuple(token_ids[span.prompt_at : span.prompt_at + span.prompt_length])
        encoded.append(Encoded(prompt, (tuple(target[first : first + num_decisions]),)))
        first += num_decisions
    return encoded


def grouped_log_prob(model: Any, inputs: Inputs, *, kernel: Kernel = "loop") -> LogProbs:
    """Log-probability of every decision, float32 or wider, nats; of what `collate_groups` gave."""
    flat = decision_log_probs(model, decided_hidden(model, inputs, kernel=kernel), inputs["target"])
    mask = decision_mask(inputs["response_length"])
    return LogProbs(scattered(flat, mask), mask)


def grouped_choices(model: Any, inputs: Inputs, *, kernel: Kernel = "loop") -> tuple[LogProbs, Choices]:
    """What `grouped_log_prob` gives, and the log-probability of every choice at every decision, nats."""
    hidden, mask = decided_hidden(model, inputs, kernel=kernel), decision_mask(inputs["response_length"])
    num = num_at_a_time(model)

    def distribution(some: Tensor) -> Tensor:
        return decision_logits(model, some).log_softmax(-1)

    if len(hidden) > num:
        token = decision_log_probs(model, hidden, inputs["target"])
        return LogProbs(scattered(token, mask), mask), Choices(hidden, distribution, mask, num)
    flat = distribution(hidden)
    token = flat.gather(-1, inputs["target"][:, None])[:, 0]
    return LogProbs(scattered(token, mask), mask), Choices.of_decisions(flat, mask)


def decided_hidden(
    model: Any, inputs: Inputs, *, kernel: Kernel = "loop", windows: set[int | None] | None = None
) -> Float[Tensor, " d h"]:
    """The model's last hidden states at the positions that decide. Into `windows` goes how far each layer sees."""
    config, spans = model.config.get_text_config(), read_spans(inputs["spans"])
    row: dict[str, Any] = {"packed": PackedRow(spans)}
    if kernel == "flex":
        far = {None, getattr(config, "sliding_window", None)}
        row = {"masks": RowMasks(spans, far, inputs["input_ids"].device)}
    with grouped_attention(config):
        output = model.base_model(
            input_ids=inputs["input_ids"],
            position_ids=inputs["position_ids"],
            windows=windows,
            use_cache=False,
            **row,
        )
    return output.last_hidden_state[0, inputs["decided_at"]]


def decision_log_probs(model: Any, hidden: Float[Tensor, " d h"], target: Int[Tensor, " d"]) -> Float[Tensor, " d"]:
    """log-probability of each `target`, float32 or wider, nats; at most `HEAD_BYTES` of logits are held at a time."""
    num = num_at_a_time(model)
    if len(hidden) <= num:
        return _log_probs(model, hidden, target)
    parts = zip(hidden.split(num), target.split(num), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_log_probs(model, *part) for part in parts])
    chunks = [checkpoint(_log_probs, model, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat([chunk for chunk in chunks if isinstance(chunk, Tensor)])


def num_at_a_time(model: Any) -> int:
    """Decisions whose logits are `HEAD_BYTES`, or `HEAD_BYTES_ON_GPU`; 1 at least."""
    head = model.get_output_embeddings().weight
    return max(1, (HEAD_BYTES_ON_GPU if head.device.type == "cuda" else HEAD_BYTES) // (4 * head.shape[0]))


def decision_logits(model: Any, hidden: Float[Tensor, " d h"]) -> Float[Tensor, " d v"]:
    """What the model's head makes of hidden states, in float32 or wider."""
    config = model.config.get_text_config()
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    # Of Cohere and Granite. Hidden states times a number have logits times it, and are far fewer.
    logits = model.get_output_embeddings()(hidden if scale == 1 else hidden * scale)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    bound = getattr(config, "final_logit_softcapping", None)
    return logits if bound is None else bound * torch.tanh(logits / bound)


def _log_probs(model: Any, hidden: Tensor, target: Tensor) -> Tensor:
    logits = decision_logits(model, hidden)
    with torch.autocast(device_type=target.device.type, enabled=False):
        # Its way back needs one tensor as large as the logits; gather and logsumexp need three.
        return -cross_entropy(logits, target, reduction="none")
