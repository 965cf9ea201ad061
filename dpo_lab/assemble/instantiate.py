"""From a ``_target_`` node to what it names. The only place where config becomes a call."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from dpo_lab.config.signature import locate
from dpo_lab.errors import UserError
from dpo_lab.needs import Objective, Term, is_composite
from dpo_lab.types import LogProbs, PolicyStats

TARGET = "_target_"


def instantiate(node: Mapping[str, Any], packages: tuple[str, ...], **given: Any) -> Any:
    """Call what `node` names with its knobs, and with those of `given` that it asks for by name.

    Nested nodes become functions with their knobs filled in. Only names inside `packages` are imported.

    Raises:
        TargetError: when the target is outside of `packages` or does not exist.
    """
    function = bind(node, packages)
    wanted = inspect.signature(function).parameters
    return function(**{name: value for name, value in given.items() if name in wanted and _is_given(wanted[name])})


def bind(node: Mapping[str, Any], packages: tuple[str, ...]) -> Any:
    """The function that `node` names with its knobs filled in, not called."""
    knobs = {key: _bind_nested(value, packages) for key, value in node.items() if key != TARGET}
    return partial(locate(node[TARGET], packages), **knobs)


def build_objective(node: Mapping[str, Any], packages: tuple[str, ...]) -> Objective:
    """The objective of a `loss` node: a single loss, or what a function that gives an `Objective` makes of several.

    Raises:
        UserError: when knobs of a loss contradict each other, or are too small or large to compute with: it is tried
            on one pair, before anything is loaded.
    """
    function = bind(node, packages)
    objective = function() if is_composite(function) else Objective((Term(function.func.__name__, function),))
    try:
        outputs = objective(_one_pair())
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"loss: {error}") from error
    for name, output in outputs.items():
        if not bool(output.loss.isfinite().all()):
            raise UserError(f"loss {name}: its arguments make a loss that is no number; nothing was started")
    return objective


def _one_pair() -> dict[str, Any]:
    """Two responses of one token each, nats, judged in every way that an objective could ask for."""
    log_probs = LogProbs(torch.tensor([[-1.0], [-2.0]]), torch.ones(2, 1, dtype=torch.bool))
    pairs = torch.tensor([[0, 1]])
    return {
        "policy": log_probs,
        "reference": log_probs,
        "pairs": pairs,
        "chosen": pairs[:, 0],
        "ranking": pairs,
        "labels": torch.tensor([1, 0]),
        "scores": torch.tensor([1.0, 0.0], dtype=torch.float64),
        "win_probability": torch.tensor([0.9], dtype=torch.float64),
        "drift": pairs[:, 1],
        "generator": [torch.Generator().manual_seed(seed) for seed in (0, 1)],
        "policy_stats": PolicyStats(log_probs.token),
        "sequential_kl": torch.tensor([0.1, 0.2]),
    }


def _bind_nested(value: Any, packages: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return bind(value, packages)
        return {key: _bind_nested(inner, packages) for key, inner in value.items()}
    return value


def _is_given(parameter: inspect.Parameter) -> bool:
    """Whether the framework gives it: what stands before ``*`` in a signature."""
    return parameter.kind is not inspect.Parameter.KEYWORD_ONLY
