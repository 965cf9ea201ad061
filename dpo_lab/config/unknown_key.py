"""What to say of a key that a composed config does not have."""

from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dpo_lab.config.choices import has_own_node, holders, refuse
from dpo_lab.config.source import Source
from dpo_lab.config.spelling import did_you_mean, nearest_key


def unknown_key(config: DictConfig, key: str, source: Source, options_of: Callable[[str], list[str] | None]) -> str:
    """Why `config` lacks `key`, as far as that can be known, what is like it, and what stands beside it.

    `options_of` gives the names of the files of a group, None where there is no such group.
    """
    group, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if name in (options_of(group) or []) and has_own_node(source, group, name):
        return f"{name} is not chosen; name it among the others: {group}=[{name}]"
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    known = set(_dotted_keys(plain))
    suggestion = nearest_key(key, known | set(source.groups()))
    parent = _deepest_parent(key, known)
    names = [name.removeprefix(f"{parent}.") for name in known if name.rpartition(".")[0] == parent]
    if suggestion and not parent:
        names = []  # the whole top level would bury the one that was meant
    title = f"keys of {parent}" if parent else "top-level keys"
    choice = OmegaConf.select(config, "hydra.runtime.choices").get(parent)
    title += f" ({choice})" if choice else ""
    refusal = _refusal(config, key, source)
    return (
        f"{refusal}{did_you_mean(None, names, title)}"
        if refusal
        else (f"no such key{did_you_mean(suggestion, names, title)}")
    )


def _refusal(config: DictConfig, key: str, source: Source) -> str | None:
    """Why the file chosen for a group lacks `key`, where other files of that group hold it."""
    choices: Any = OmegaConf.to_container(OmegaConf.select(config, "hydra.runtime.choices"))
    places = {place.rpartition("@")[2]: (place.partition("@")[0], choice) for place, choice in choices.items()}
    packages = [package for package in places if key.startswith(f"{package}.")]
    if not packages:
        return None
    package = max(packages, key=len)
    group, choice = places[package]
    knob = key.removeprefix(f"{package}.")
    takers = holders(source, group, knob)
    return refuse(choice, group, package, knob, takers) if takers else None


def _dotted_keys(node: Any, path: str = "") -> Iterator[str]:
    if not isinstance(node, dict):
        return
    for name, child in node.items():
        if name == "_target_":
            continue
        key = f"{path}.{name}" if path else str(name)
        yield key
        yield from _dotted_keys(child, key)


def _deepest_parent(key: str, known: set[str]) -> str:
    parent = key.rpartition(".")[0]
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    return parent
