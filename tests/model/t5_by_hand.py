"""T5 written out: every number of a small encoder-decoder from its weights, without transformers.

Raffel et al. 2020, arXiv 1910.10683, section 2.1: no scale of the attention, a bias by relative position that the first
layer holds for all, a norm without a mean, in front of each sublayer.
"""

import torch
from torch import Tensor

EXACT = 8
"""Distances below which every one has a bias of its own, with 32 buckets for two directions; of one, 16."""

Weights = dict[str, Tensor]


def t5_log_probs(
    weights: Weights, prompt: list[int], response: list[int], *, num_heads: int, start: int
) -> list[float]:
    """Log-probability of each token of `response`, nats; both shorter than `EXACT` + 1 tokens. `weights` in float64."""
    assert max(len(prompt), len(response)) <= EXACT
    read = _stack(weights, "encoder", prompt, None, num_heads)
    written = _stack(weights, "decoder", [start, *response[:-1]], read, num_heads)
    head = weights.get("lm_head.weight", weights["shared.weight"])
    tied = "lm_head.weight" not in weights or torch.equal(head, weights["shared.weight"])
    logits = (written * written.shape[1] ** -0.5 if tied else written) @ head.T
    exponentials = (logits - logits.amax(1, keepdim=True)).exp()
    probabilities = exponentials / exponentials.sum(1, keepdim=True)
    return [float(line[token].log()) for line, token in zip(probabilities, response, strict=True)]


def _stack(weights: Weights, side: str, ids: list[int], read: Tensor | None, num_heads: int) -> Tensor:
    """What `side` makes of its ids, one line a token."""
    hidden = weights["shared.weight"][ids]
    place = torch.arange(len(ids))
    distance = place[None] - place[:, None]  # key minus query
    if read is None:
        bucket = distance.abs() + 16 * (distance > 0)
        hides = torch.zeros_like(distance, dtype=torch.bool)
    else:
        bucket = (-distance).clamp(min=0)
        hides = distance > 0
    first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    bias = weights[first][bucket].permute(2, 0, 1).masked_fill(hides[None], -torch.inf)
    layer = 0
    while f"{side}.block.{layer}.layer.0.SelfAttention.q.weight" in weights:
        at = f"{side}.block.{layer}.layer"
        seen = _norm(hidden, weights[f"{at}.0.layer_norm.weight"])
        hidden = hidden + _attend(weights, f"{at}.0.SelfAttention", seen, seen, bias, num_heads)
        if read is not None:
            seen = _norm(hidden, weights[f"{at}.1.layer_norm.weight"])
            hidden = hidden + _attend(weights, f"{at}.1.EncDecAttention", seen, read, torch.zeros(1), num_heads)
        last = f"{at}.{1 if read is None else 2}"
        seen = _norm(hidden, weights[f"{last}.layer_norm.weight"])
        inner = (seen @ weights[f"{last}.DenseReluDense.wi.weight"].T).clamp(min=0)
        hidden = hidden + inner @ weights[f"{last}.DenseReluDense.wo.weight"].T
        layer += 1
    return _norm(hidden, weights[f"{side}.final_layer_norm.weight"])


def _norm(hidden: Tensor, weight: Tensor) -> Tensor:
    return weight * hidden / (hidden.square().mean(1, keepdim=True) + 1e-6).sqrt()


def _attend(weights: Weights, at: str, asking: Tensor, asked: Tensor, bias: Tensor, num_heads: int) -> Tensor:
    query, key, value = (
        (side @ weights[f"{at}.{name}.weight"].T).unflatten(1, (num_heads, -1)).transpose(0, 1)
        for name, side in (("q", asking), ("k", asked), ("v", asked))
    )
    scores = query @ key.transpose(1, 2) + bias
    exponentials = (scores - scores.amax(2, keepdim=True)).exp()
    shares = exponentials / exponentials.sum(2, keepdim=True)
    return (shares @ value).transpose(0, 1).flatten(1) @ weights[f"{at}.o.weight"].T
