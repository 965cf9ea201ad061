"""Signatures as schemas: which keys a target, a dataclass or a TypedDict takes, and what each may hold."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from dpo_lab.config.spelling import nearest


class TargetError(LookupError):
    """A ``_target_`` that is not allowed or leads nowhere; the message says why."""


@dataclass(frozen=True)
class Knob:
    """What one key may hold, and whether it must be there."""

    annotation: Any
    required: bool


@dataclass(frozen=True)
class Signature:
    """The keys that a config node may hold. `given` are arguments that the framework supplies, never the config."""

    knobs: dict[str, Knob]
    given: frozenset[str] = frozenset()
    is_open: bool = False


def locate(target: Any, packages: tuple[str, ...]) -> Callable[..., Any]:
    """The function or class that `target` (``"package.module.name"``) names.

    Raises:
        TargetError: outside of `packages`, no such module or name, or the module fails to import.
    """
    if not isinstance(target, str) or "." not in target:
        raise TargetError(f"must be package.module.name, got {target!r}")
    if not any(target.startswith(f"{package}.") for package in packages):
        outside = target.split(".")[0]
        raise TargetError(f"{target} lies outside of {', '.join(packages)}; to allow its package: plugins=[{outside}]")
    module_name, _, name = target.rpartition(".")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise TargetError(f"cannot import {module_name}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        suggestion = nearest(name, (known for known in vars(module) if callable(getattr(module, known))))
        raise TargetError(f"{module_name} has no {name}" + (f"; did you mean {suggestion}?" if suggestion else ""))
    return found


def is_importable(package: str) -> bool:
    """Whether `package` (dotted) can be found by an import; its parents are imported to look."""
    try:
        return all(part.isidentifier() for part in package.split(".")) and find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def read_target(target: Callable[..., Any]) -> Signature:
    """The keyword-only arguments of `target` are its knobs; every other argument the framework gives."""
    parameters = inspect.signature(target).parameters.values()
    knobs = {
        p.name: Knob(_annotation(p, target), p.default is inspect.Parameter.empty)
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    given = frozenset(p.name for p in parameters if p.name not in knobs and p.kind not in variadic)
    return Signature(knobs, given, is_open=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters))


def read_shape(annotation: Any) -> Signature | None:
    """The keys of a mapping that `annotation` declares, as a dataclass or a TypedDict; None for anything else."""
    if is_typeddict(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        bare = {name: get_args(hint)[0] if get_origin(hint) is NotRequired else hint for name, hint in hints.items()}
        return Signature({name: Knob(hint, name in annotation.__required_keys__) for name, hint in bare.items()})
    if isinstance(annotation, type) and is_dataclass(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        return Signature({f.name: Knob(hints[f.name], _has_no_default(f)) for f in fields(annotation)})
    return None


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Origin and arguments of `annotation`, without the ranges that an ``Annotated`` adds."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) or annotation, get_args(annotation)


def _has_no_default(declared: Any) -> bool:
    return declared.default is MISSING and declared.default_factory is MISSING


def _annotation(parameter: inspect.Parameter, target: Callable[..., Any]) -> Any:
    """Only this parameter's: the framework's arguments may be annotated with names that exist while type checking."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    owner = target.__init__ if inspect.isclass(target) else inspect.unwrap(target)
    return eval(parameter.annotation, owner.__globals__)
