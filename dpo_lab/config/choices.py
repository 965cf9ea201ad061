"""Which files of a config group hold a key: what a knob that the chosen file lacks is answered with."""

from collections.abc import Iterator, Mapping

import yaml
from hydra.core.default_element import GroupDefault, InputDefault
from omegaconf import DictConfig, OmegaConf

from dpo_lab.config.source import Source

GLOBAL = "_global_"


def holders(source: Source, group: str, key: str) -> dict[str, str | None]:
    """The files of `group` that hold the dotted `key`, read one by one and not composed, by name; sorted.

    Beside each, where it puts another file of the same group into a node of its own, that node. A file that stands
    elsewhere than under its group's name (``# @package _global_``) holds nothing of the group's.
    """
    found = {name: inner for name, node, inner in _files(source, group) if key in _dotted_keys(node)}
    return dict(sorted(found.items()))


def has_own_node(source: Source, group: str, name: str) -> bool:
    """Whether the file `name` of `group` fills a node ``group.name``, so that several can be chosen together."""
    _, repository = source.loader._parse_overrides_and_create_caching_repo(source.config_name, [*source.searchpath])
    found = repository.load_config(f"{group}/{name}")
    return found is not None and found.header.get("package") == f"{group}.{name}"


def refuse(choice: str, group: str, package: str, key: str, takers: Mapping[str, str | None]) -> str:
    """Why `key` is no key of `choice`, which stands at `package`, and where it would be one.

    >>> refuse("ipo", "loss", "loss", "gamma", {"modified": "base", "simpo": None})
    'ipo does not take gamma; choices of loss that do: modified (around another: loss@loss.base=NAME), simpo'
    """
    told = [
        f"{name} (around another: {group}@{package}.{inner}=NAME)" if inner else name for name, inner in takers.items()
    ]
    return f"{choice} does not take {key}; choices of {group} that do: {', '.join(told)}"


def _files(source: Source, group: str) -> Iterator[tuple[str, DictConfig, str | None]]:
    _, repository = source.loader._parse_overrides_and_create_caching_repo(source.config_name, [*source.searchpath])
    for name in repository.get_group_options(group):
        try:
            found = repository.load_config(f"{group}/{name}")
        except (yaml.YAMLError, UnicodeDecodeError):
            continue  # told where it is chosen
        if found is not None and found.header.get("package") != GLOBAL and isinstance(found.config, DictConfig):
            yield name, found.config, _inner(found.defaults_list or [], group)


def _inner(defaults: list[InputDefault], group: str) -> str | None:
    """The one node of a file into which its defaults put another file of its group; None of several, and of none."""
    places = [
        default.package
        for default in defaults
        if isinstance(default, GroupDefault) and default.group == f"/{group}" and default.package != "_here_"
    ]
    return places[0] if len(places) == 1 else None


def _dotted_keys(node: DictConfig, path: str = "") -> Iterator[str]:
    for name in node:
        if name in ("_target_", "defaults"):
            continue
        key = f"{path}{name}"
        yield key
        child = None if OmegaConf.is_missing(node, name) else node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _dotted_keys(child, f"{key}.")
