"""What is wrong with a checkpoint although transformers loads it: weights that go nowhere, a model that looks ahead."""

import re
import warnings
from collections.abc import Iterable
from typing import Any

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.weight_files import some

NUM_TOKENS = 6
TOLERANCE = 100.0
"""Of the spacing of numbers at the largest logit: groups of tokens of other sizes round otherwise."""


class UnusedWeightsWarning(UserWarning):
    """A checkpoint holds weights for which the model has no place."""


def check_unused(what: str, unexpected: Iterable[str], model: torch.nn.Module) -> None:
    """Warn of weights that the model has no place for; refuse where it lacks whole layers that the checkpoint has.

    Args:
        unexpected: their names.

    Raises:
        UserError: the model has tensors of the same name with other numbers in it: config.json is of a smaller model.
    """
    names = sorted(unexpected)
    kinds = {_without_numbers(name) for name, _ in model.named_parameters()}
    layers = [name for name in names if _without_numbers(name) in kinds and re.search(r"\d", name)]
    if layers:
        raise UserError(
            f"{what}: config.json describes fewer layers than the checkpoint holds, and these would be left out: "
            f"{some(layers)}; give files of one checkpoint"
        )
    if names:
        warnings.warn(
            f"{what}: the checkpoint holds weights that this kind of model does not have, and they are not used: "
            f"{some(names)}",
            UnusedWeightsWarning,
            stacklevel=2,
        )


def check_causal(what: str, model: Any) -> None:
    """Refuse a model whose logits at one token depend on the tokens behind it: log-probs would be no log-probs.

    transformers builds an encoder such as BERT as a causal language model too, without a mask.

    Raises:
        UserError: they do.
    """
    num_tokens = model.get_input_embeddings().num_embeddings
    tokens = torch.arange(1, NUM_TOKENS + 1) % num_tokens
    changed = tokens.clone()
    changed[-1] = (changed[-1] + num_tokens // 2) % num_tokens
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = [model(input_ids=ids[None], use_cache=False).logits[0, :-1].float() for ids in (tokens, changed)]
    model.train(was_training)
    spacing = torch.finfo(model.dtype).eps * float(logits[0].abs().max())
    if float((logits[0] - logits[1]).abs().max()) > TOLERANCE * spacing:
        raise UserError(
            f"{what}: what it says of a token depends on the tokens behind it, so it is no causal language model (an "
            "encoder?); for classes take model=classifier, for spans model=extractive_qa"
        )


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "N", name)
