"""Which way a model computes log-probs: decided by trying it against the plain pass, before any training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.grouped_scoring import collate_groups, decided_hidden, decision_log_probs
from dpo_lab.types import Encoded

Attention = Literal["auto", "shared", "packed", "padded"]

TOLERANCE_NATS = {torch.float32: 1e-3, torch.bfloat16: 0.25}
"""Largest difference of a token's log-prob from the plain pass; a model that mixes sequences up is off by nats."""

ROUNDING_NATS = 2e-5
"""What two ways of computing the same log-prob of about -10 nats in float32 may differ by."""

KNOWN_LAYERS = {"full_attention", "sliding_attention"}
GROUPS = (((5, 3), (4, 7, 1)), ((1,), (2, 5)))
"""Lengths of prompts and responses that are tried: one and several, also of one token."""


class Choice(NamedTuple):
    """The way that is taken, and why it is not a better one."""

    attention: Literal["shared", "packed", "padded"]
    reason: str | None = None


def choose_attention(model: Any, wanted: Attention, *, dropout: float) -> Choice:
    """`wanted`, if the model can; under "auto" the cheapest that it can.

    Sharing a prompt shares its dropout among the responses, which separate sequences would not: so with dropout each
    response has its prompt to itself ("packed").

    Raises:
        UserError: for a `wanted` way, other than "auto", that this model cannot take.
    """
    if wanted == "padded":
        return Choice("padded")
    obstacle = find_obstacle(model)
    noise = "dropout is on, and a shared prompt would share its noise" if dropout > 0 else None
    if wanted == "auto":
        if obstacle is not None:
            return Choice("padded", obstacle)
        return Choice("packed", noise) if noise else Choice("shared")
    reason = obstacle or (noise if wanted == "shared" else None)
    if reason is not None:
        raise UserError(f"model.attention={wanted}: {reason}; use model.attention=auto")
    return Choice(wanted)


def find_obstacle(model: Any) -> str | None:
    """Why this model cannot attend by group; None where it can, and gives the numbers of the plain pass."""
    config = model.config.get_text_config()
    unknown = set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS
    if unknown:
        return f"{type(model).__name__} has layers of {', '.join(sorted(unknown))}"
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return _compare(model, config)
    finally:
        model.train(was_training)


def _compare(model: Any, config: Any) -> str | None:
    groups = _random_groups(config.vocab_size)
    inputs = {name: tensor.to(model.device) for name, tensor in collate_groups(groups, is_shared=True).items()}
    windows: set[int | None] = set()
    try:
        hidden = decided_hidden(model, inputs, windows=windows)
        found = decision_log_probs(model, hidden, inputs["target"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"{type(model).__name__} does not attend through transformers' interface ({_first_line(error)})"
    if not windows:
        return f"{type(model).__name__} does not attend through transformers' interface"
    if _has_window(config) and windows == {None}:
        return f"{type(model).__name__} has a sliding window that its attention does not name"
    plain = _plain(model, groups)
    gap = float((found - plain).abs().max())
    # An untrained model hardly listens to its prompt, so a mix-up would show as little: it is measured by that.
    other = [replace(group, prompt=group.prompt[::-1] + group.prompt[:1]) for group in groups]
    heard = float((_plain(model, other) - plain).abs().max())
    tolerance = TOLERANCE_NATS.get(model.dtype, TOLERANCE_NATS[torch.float32])
    if not gap <= min(tolerance, max(ROUNDING_NATS, 0.02 * heard)):
        return f"{type(model).__name__} gives other log-probs by group than row by row (by {gap:.2g} nats)"
    return None


def _has_window(config: Any) -> bool:
    layers = getattr(config, "layer_types", None)
    if layers is not None:
        return "sliding_attention" in layers
    return getattr(config, "sliding_window", None) is not None


def _random_groups(vocab_size: int) -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocab_size, (length,), generator=generator).tolist())

    return [
        Encoded(draw(prompt), tuple(draw(length) for length in lengths))
        for prompts, lengths in GROUPS
        for prompt in prompts
    ]


def _plain(model: Any, groups: Sequence[Encoded]) -> Tensor:
    """Log-probs of every decision, each response in a pass of its own through the whole model."""
    rows = []
    for group in groups:
        for response in group.responses:
            token_ids = torch.tensor([[*group.prompt, *response]], device=model.device)
            logits = model(input_ids=token_ids, use_cache=False).logits[0].float().log_softmax(-1)
            decided = logits[len(group.prompt) - 1 : -1]
            rows.append(decided.gather(-1, token_ids[0, len(group.prompt) :, None])[:, 0])
    return torch.cat(rows)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:80]
