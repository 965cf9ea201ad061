"""How many positions a model knows, in the sense that a log-prob means the same whatever it is computed beside."""

from typing import Any

MOVING = frozenset({"dynamic", "longrope"})
"""Kinds of rotary embedding that turn *every* position of a batch otherwise once its longest row passes a limit."""

COUNT_FROM_PAD = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "longformer"}
)
"""Kinds of model whose first position stands behind that of the padding id: they know fewer than their table has."""

UNBOUNDED = 10**6
"""Tokenizers say a number far beyond it where they know no longest text."""


def longest_text(config: Any, tokenizer: Any) -> int | None:
    """Tokens that a model and its tokenizer know at most, special ones included; None where nothing bounds them."""
    limits = [known_positions(config)]
    if limits[0] is not None and config.model_type in COUNT_FROM_PAD:
        limits = [limits[0] - config.pad_token_id - 1]
    if tokenizer.model_max_length < UNBOUNDED:
        limits.append(tokenizer.model_max_length)
    return min((limit for limit in limits if limit is not None), default=None)


def known_positions(config: Any) -> int | None:
    """Longest row that leaves the numbers of all other rows as they are; None where nothing bounds it.

    With a rotary embedding that moves, that is the length up to which it was trained: past it, a row's log-probs depend
    on how long the others are, by whole nats.

    Args:
        config: of a text model, as transformers has it.
    """
    limit = getattr(config, "max_position_embeddings", None)
    rotary = [part for part in _rotary(config) if part.get("rope_type", part.get("type")) in MOVING]
    if not rotary:
        return limit
    own = getattr(config, "original_max_position_embeddings", None)
    trained = [found for part in rotary if (found := part.get("original_max_position_embeddings", own)) is not None]
    return min([length for length in (limit, *trained) if length is not None], default=None)


def _rotary(config: Any) -> list[dict[str, Any]]:
    """Its parameters: one set, or one for each kind of layer."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    sets = [part for part in found.values() if isinstance(part, dict)]
    return sets or [found]
