"""From a ``_target_`` node to what it names. The only place where config becomes a call."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from dpo_lab.config.signature import locate
from dpo_lab.needs import Objective, Term

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
    """The objective of a `loss` node: a single loss, or what a function that gives an `Objective` makes of several."""
    function = bind(node, packages)
    if inspect.signature(function).return_annotation is Objective:
        return function()
    return Objective((Term(function.func.__name__, function),))


def _bind_nested(value: Any, packages: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return bind(value, packages)
        return {key: _bind_nested(inner, packages) for key, inner in value.items()}
    return value


def _is_given(parameter: inspect.Parameter) -> bool:
    """Whether the framework gives it: what stands before ``*`` in a signature."""
    return parameter.kind is not inspect.Parameter.KEYWORD_ONLY
