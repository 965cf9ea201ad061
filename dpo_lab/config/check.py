"""`check(cfg)`: a composed config against the signatures that it feeds, with every fault in one message."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Union

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpo_lab.config.choices import holders, refuse
from dpo_lab.config.cross import CROSS_CHECKS, OF_THIS_MACHINE
from dpo_lab.config.experiment import Experiment
from dpo_lab.config.signature import Signature, TargetError, is_importable, locate, read_shape, read_target, unwrap
from dpo_lab.config.source import Source
from dpo_lab.config.spelling import did_you_mean, nearest
from dpo_lab.config.values import explain, show
from dpo_lab.errors import UserError
from dpo_lab.paths import CONF_DIR

MISSING = "???"
TARGET = "_target_"


class ConfigError(UserError):
    """A config that cannot be run. Every argument is one fault, a sentence that starts with the dotted key."""

    @property
    def faults(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        number = f"{len(self.faults)} faults" if len(self.faults) > 1 else "1 fault"
        return "\n".join([f"{number} in the config; nothing was started", *(f"  {fault}" for fault in self.faults)])


def check(cfg: DictConfig | Mapping[str, Any]) -> None:
    """Compare the config of a run with the signatures that it feeds. Imports the targets, builds nothing.

    Raises:
        ConfigError: with every unknown, missing, ill-typed or out-of-range value, and every contradiction.
    """
    faults = find_faults(cfg)
    if faults:
        raise ConfigError(*faults)


def find_faults(cfg: DictConfig | Mapping[str, Any], *, is_here: bool = True) -> list[str]:
    """The faults that `check` would raise, in the order of the config; empty for a config that can be run.

    Args:
        is_here: whether it is this machine that will run it.
    """
    faults: list[str] = []
    node = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg))
    plain = _plain(node, "", faults)
    packages = ("dpo_lab", *_plugins(plain, faults))
    shape = read_shape(Experiment)
    assert shape is not None
    unresolved = {fault.partition(":")[0] for fault in faults}
    found = list(_check_keys("", plain, shape, packages))
    for cross_check in CROSS_CHECKS:
        if is_here or cross_check not in OF_THIS_MACHINE:
            found += cross_check(plain)
    return list(dict.fromkeys([*faults, *(fault for fault in found if fault.partition(":")[0] not in unresolved)]))


def find_shape_faults(plain: dict[str, Any], shape: Any) -> list[str]:
    """What is wrong with a plain mapping that should be a `shape` (a dataclass or a TypedDict), in the same words."""
    signature = read_shape(shape)
    assert signature is not None
    return list(_check_keys("", plain, signature, ("dpo_lab",)))


def _plain(node: DictConfig | ListConfig, path: str, faults: list[str]) -> Any:
    """Plain containers with interpolations resolved; those that lead nowhere become faults and are left out."""
    keys: list[Any] = list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))
    found: dict[Any, Any] = {}
    for key in keys:
        if not path and key == "hydra":
            continue
        if OmegaConf.is_missing(node, key):
            found[key] = MISSING
            continue
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            faults.append(f"{_join(path, key)}: {str(error).splitlines()[0]}")
            continue
        is_container = isinstance(value, DictConfig | ListConfig)
        found[key] = _plain(value, _join(path, key), faults) if is_container else value
    return found if isinstance(node, DictConfig) else list(found.values())


def _plugins(plain: dict[str, Any], faults: list[str]) -> list[str]:
    plugins = plain.get("plugins")
    named = [plugin for plugin in plugins if isinstance(plugin, str)] if isinstance(plugins, list) else []
    faults += [
        f"plugins: no package {plugin!r} can be imported; install it or put its folder on PYTHONPATH"
        for plugin in named
        if not is_importable(plugin)
    ]
    return named


def _check_keys(
    path: str, node: dict[Any, Any], signature: Signature, packages: tuple[str, ...], target: str = ""
) -> Iterator[str]:
    """Unknown and missing keys of one mapping, then each value that is there; `target` is what the mapping feeds."""
    owner = f"keys of {path}" if path else "top-level keys"
    for key, value in node.items():
        if key in signature.knobs:
            yield from _check_value(_join(path, key), value, signature.knobs[key].annotation, packages)
        elif key in signature.given:
            yield f"{_join(path, key)}: is given by the framework, not by the config; remove it"
        elif not signature.is_open:
            yield f"{_join(path, key)}: {_unknown_key(path, str(key), signature, owner, target)}"
    for key, knob in signature.knobs.items():
        if knob.required and key not in node:
            remedy = f"choose one: {key}=NAME" if _is_component(knob.annotation) else "it has no default"
            yield f"{_join(path, key)}: missing; {remedy}"


def _unknown_key(path: str, key: str, signature: Signature, owner: str, target: str) -> str:
    """What is wrong with a key that its node does not take: another choice's knob, or a slip of the pen."""
    package, _, rest = target.partition(".")
    group, takers = rest.partition(".")[0], {}
    if package == "dpo_lab" and (CONF_DIR / group).is_dir():
        takers = holders(Source(str(CONF_DIR), "train"), group, key)
    if takers:
        refusal = refuse(target.rpartition(".")[2], group, path, key, takers)
        return f"{refusal}{did_you_mean(None, signature.knobs, owner)}"
    suggestion = nearest(key, signature.knobs)
    whole = _join(path, suggestion) if suggestion else None
    return f"no such key{did_you_mean(whole, signature.knobs, owner)}"


def _check_value(path: str, value: Any, annotation: Any, packages: tuple[str, ...]) -> Iterator[str]:
    if value == MISSING and isinstance(value, str):
        yield f"{path}: must be given: {path}=VALUE"
    elif isinstance(value, dict) and TARGET in value:
        yield from _check_target(path, value, packages)
    elif isinstance(value, dict | list):
        yield from _check_container(path, value, _branch(value, annotation), packages)
    elif value is None and _accepts_none(annotation):
        return
    elif _is_component(annotation):
        yield f"{path}: must be a node with a _target_, as the files of a config group are, got {show(value)}"
    elif read_shape(_branch({}, annotation)) is not None:
        also = "a list or " if _branch([], annotation) is not annotation else ""
        yield f"{path}: must be {also}a mapping, got {show(value)}"
    else:
        yield from _refusal(path, value, annotation)


def _refusal(path: str, value: Any, annotation: Any) -> Iterator[str]:
    reason = explain(value, annotation)
    if reason:
        yield f"{path}: {reason}"


def _check_target(path: str, node: dict[Any, Any], packages: tuple[str, ...]) -> Iterator[str]:
    try:
        target = locate(node[TARGET], packages)
    except TargetError as error:
        yield f"{path}.{TARGET}: {error}"
        return
    knobs = {key: value for key, value in node.items() if key != TARGET}
    yield from _check_keys(path, knobs, read_target(target), packages, node[TARGET])


def _check_container(path: str, value: Any, annotation: Any, packages: tuple[str, ...]) -> Iterator[str]:
    """A mapping or a list: by its declared keys, else entry by entry, so that faults and targets inside are found."""
    shape = read_shape(annotation)
    entry_annotation = _entry_annotation(value, annotation)
    if shape is not None and isinstance(value, dict):
        yield from _check_keys(path, value, shape, packages)
    elif entry_annotation is not None:
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _check_value(_join(path, key), entry, entry_annotation, packages)
    elif _is_component(annotation):
        yield f"{path}: must be a node with a _target_, as the files of a config group are"
    elif shape is not None:
        yield f"{path}: must be a mapping, got {show(value)}"
    else:
        yield from _refusal(path, value, annotation)


def _entry_annotation(value: Any, annotation: Any) -> Any | None:
    """What every entry of `value` must be; None where `annotation` is no such mapping or list."""
    origin, arguments = unwrap(annotation)
    if origin is Any:
        return Any
    if not isinstance(origin, type) or origin is str:
        return None
    if not issubclass(origin, Mapping if isinstance(value, dict) else Sequence):
        return None
    is_fixed = isinstance(value, list) and len(arguments) > 1
    return None if is_fixed else arguments[-1] if arguments else Any


def _branch(value: Any, annotation: Any) -> Any:
    """The branch of a union that a mapping or a list is meant for; `annotation` itself where it is no union."""
    origin, arguments = unwrap(annotation)
    if origin not in (Union, UnionType):
        return annotation
    wanted = Mapping if isinstance(value, dict) else Sequence
    for argument in arguments:
        kind = unwrap(argument)[0]
        if isinstance(value, dict) and (read_shape(argument) is not None or _is_component(argument)):
            return argument
        if isinstance(kind, type) and issubclass(kind, wanted) and kind is not str:
            return argument
    return annotation


def _is_component(annotation: Any) -> bool:
    origin, arguments = unwrap(annotation)
    if origin in (Union, UnionType):
        return any(_is_component(argument) for argument in arguments)
    return origin is Callable


def _accepts_none(annotation: Any) -> bool:
    origin, arguments = unwrap(annotation)
    return annotation is Any or (origin in (Union, UnionType) and type(None) in arguments)


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
