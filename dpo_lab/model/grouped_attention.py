"""Attention over packed groups: one row of tokens, in which each group is a prompt and the responses that follow it.

Registered under `NAME` in transformers' attention interface, so that a model needs neither a patch nor a mask. A
response attends to its own prompt and to itself; a prompt to itself alone. So the prompt of a group is computed once,
however many responses it has, and nothing is padded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dpo_lab.model.flex_attention import RowMasks, flex_attend
from dpo_lab.model.spans import PackedRow, Span

NAME = "dpo_lab_grouped"


class _How(NamedTuple):
    """How scores become weights."""

    window: int | None
    softcap: float | None
    sinks: Tensor | None
    scale: float | None
    dropout: float

    @property
    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale, "dropout_p": self.dropout}


@contextmanager
def grouped_attention(config: Any) -> Iterator[None]:
    """The model with this `config` attends by group, to be called with ``packed`` or ``masks``; then put back."""
    _register()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


@cache
def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)


@cache
def attend_outside_of_kernels() -> None:
    """From now on compiled layers call this attention as it is, between their kernels.

    Where every prompt and response lies would be a symbol to torch.compile, and the sizes of a few pairs are already
    more than it can reason about in an hour; as constants they would compile anew for each row. FlexAttention
    compiles its own kernel.
    """
    from transformers import AttentionInterface

    _register()
    AttentionInterface.register(NAME, torch.compiler.disable(_attend, reason="its sizes differ in every row"))


def _attend(
    module: torch.nn.Module,
    query: Float[Tensor, "1 h l d"],
    key: Float[Tensor, "1 g l d"],
    value: Float[Tensor, "1 g l e"],
    attention_mask: Tensor | None,
    *,
    packed: PackedRow | None = None,
    masks: RowMasks | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " h"] | None = None,
    windows: set[int | None] | None = None,
    **ignored: Any,
) -> tuple[Float[Tensor, "1 l h e"], None]:
    """What transformers asks of an attention function. `s_aux` are sinks: of each head a score that takes its share of
    the softmax and gives nothing (gpt-oss). `ignored` are settings of other implementations.

    Under `masks` the row is one call, otherwise each group of `packed` a few.
    """
    if windows is not None:
        windows.add(sliding_window)
    if masks is not None:
        assert not (module.training and dropout), "FlexAttention has no dropout"
        mask = masks.of(sliding_window)
        attended = flex_attend(query, key, value, mask, scale=scaling, softcap=softcap, sinks=s_aux)
        return attended.transpose(1, 2), None
    num_heads = query.shape[1]
    if key.shape[1] != num_heads:
        key, value = (each.repeat_interleave(num_heads // each.shape[1], dim=1) for each in (key, value))
    how = _How(sliding_window, softcap, s_aux, scaling, dropout if module.training else 0.0)
    parts = []
    assert packed is not None, "neither a packed row nor masks"
    # Cut into groups first: the gradient of a slice is as large as what it was cut from.
    sizes = [group[-1].end - group[0].prompt_at for group in packed.groups]
    cut = [each.split(sizes, dim=2) for each in (query, key, value)]
    for group, queries, keys, values in zip(packed.groups, cut[0], cut[1], cut[2], strict=True):
        parts += _attend_group(group, group[0].prompt_at, queries, keys, values, how)
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _attend_group(
    group: Sequence[Span],
    origin: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    how: _How,
) -> list[Tensor]:
    """Of one prompt and its responses, in order: one causal attention over the prompt and the first response, and one
    for each other response over the prompt and itself. The tensors begin at position `origin` of the row."""
    prompt = slice(group[0].prompt_at - origin, group[0].prompt_at + group[0].prompt_length - origin)
    attended = []
    for number, span in enumerate(group):
        rows = slice((span.response_at if number else span.prompt_at) - origin, span.end - origin)
        if rows.start == rows.stop:
            continue
        keys, values = key[:, :, rows], value[:, :, rows]
        if number:
            keys = torch.cat([key[:, :, prompt], keys], dim=2)
            values = torch.cat([value[:, :, prompt], values], dim=2)
        attended.append(_causal(query[:, :, rows], keys, values, how))
    return attended


def _causal(query: Tensor, key: Tensor, value: Tensor, how: _How) -> Tensor:
    """Queries are the last of the keys' positions; each sees itself and what stands before it, as far as the window."""
    num_queries, num_keys = query.shape[2], key.shape[2]
    is_cut = how.window is not None and num_keys > how.window
    if how.softcap is None and how.sinks is None and num_queries == num_keys and not is_cut:
        return scaled_dot_product_attention(query, key, value, is_causal=True, **how.settings)
    mask = _lower_right(num_queries, num_keys, how.window, query.device)
    if how.softcap is None and how.sinks is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, **how.settings)
    return _by_hand(query, key, value, mask, how)


def _lower_right(
    num_queries: int, num_keys: int, sliding_window: int | None, device: torch.device
) -> Bool[Tensor, "queries keys"]:
    """True where a key is no later than the query, and less than `sliding_window` before it."""
    distance = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None] - torch.arange(
        num_keys, device=device
    )
    seen = distance >= 0
    return seen if sliding_window is None else seen & (distance < sliding_window)


def _by_hand(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, how: _How) -> Tensor:
    """What torch's fused attention cannot: scores bounded by tanh before the softmax (Gemma 2), and sinks."""
    scale = query.shape[-1] ** -0.5 if how.scale is None else how.scale
    scores = query @ key.transpose(2, 3) * scale
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if how.sinks is not None:
        sinks = how.sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)[..., : key.shape[2]].to(query.dtype)
    return torch.nn.functional.dropout(weights, how.dropout) @ value
