"""Log-probs of an encoder-decoder model: each prompt encoded once, its responses decoded behind it."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.policy import Inputs
from dpo_lab.types import Encoded, LogProbs


def collate_seq2seq(groups: Sequence[Encoded], decoder_start: Sequence[int], *, is_shared: bool) -> Inputs:
    """Prompts for the encoder, and responses for the decoder; both padded on the right.

    With `is_shared` a prompt stands there once for all its responses, else once for each of them.

    Returns `input_ids[g, l]` and `attention_mask[g, l]` of the prompts; `prompt_of[n]`, of each response the line of
    its prompt; `decoder_input_ids[n, s]`: `decoder_start` and the response without its last token; `target[n, t]` and
    `response_length[n]`.

    Raises:
        ValueError: for a prompt or a response without tokens.
    """
    if not all(group.prompt and all(group.responses) for group in groups):
        raise ValueError("a prompt and each of its responses need at least one token")
    prompts: list[Sequence[int]] = []
    prompt_of: list[int] = []
    responses: list[Sequence[int]] = []
    for group in groups:
        for number, response in enumerate(group.responses):
            if number == 0 or not is_shared:
                prompts.append(group.prompt)
            prompt_of.append(len(prompts) - 1)
            responses.append(response)
    input_ids, attention_mask = _padded(prompts)
    decoder_input_ids, _ = _padded([[*decoder_start, *response[:-1]] for response in responses])
    target, _ = _padded(responses)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "prompt_of": torch.tensor(prompt_of),
        "decoder_input_ids": decoder_input_ids,
        "target": target,
        "response_length": torch.tensor([len(response) for response in responses]),
    }


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, " n l"], Int[Tensor, " n l"]]:
    """Rows of ids, zeros behind the end of the shorter ones, and where there are ids."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(width)[None] < lengths[:, None]).long()


def seq2seq_log_prob(model: Any, inputs: Inputs) -> LogProbs:
    """Log-probability of every decision, float32 or wider, nats; of what `collate_seq2seq` gave."""
    logits = _decide(model, inputs)
    mask = decision_mask(inputs["response_length"])
    with torch.autocast(device_type=mask.device.type, enabled=False):
        flat = -cross_entropy(logits, inputs["target"][mask], reduction="none")
    return LogProbs(flat.new_zeros(mask.shape).masked_scatter(mask, flat), mask)


def seq2seq_distribution(model: Any, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
    """What `seq2seq_log_prob` gives, and the log-probability of every choice at every decision, nats."""
    logits = _decide(model, inputs)
    mask = decision_mask(inputs["response_length"])
    with torch.autocast(device_type=mask.device.type, enabled=False):
        flat = logits.log_softmax(-1)
    token = flat.gather(-1, inputs["target"][mask][:, None])[:, 0]
    scattered = flat.new_zeros(*mask.shape, flat.shape[-1]).masked_scatter(mask[..., None], flat)
    return LogProbs(token.new_zeros(mask.shape).masked_scatter(mask, token), mask), scattered


def _decide(model: Any, inputs: Inputs) -> Float[Tensor, " d v"]:
    """Logits of every decision, row by row, float32 or wider."""
    from transformers.modeling_outputs import BaseModelOutput

    heard, prompt_of = inputs["attention_mask"], inputs["prompt_of"]
    states = model.get_encoder()(input_ids=inputs["input_ids"], attention_mask=heard).last_hidden_state
    # Padding stands behind a response, where a causal decoder does not look.
    logits = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=states[prompt_of]),
        attention_mask=heard[prompt_of],
        decoder_input_ids=inputs["decoder_input_ids"],
        use_cache=False,
    ).logits
    mask = decision_mask(inputs["response_length"])
    num_start = inputs["decoder_input_ids"].shape[1] - mask.shape[1]
    decided = logits[:, num_start:][mask]
    return decided.to(torch.promote_types(decided.dtype, torch.float32))
