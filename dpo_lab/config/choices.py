"""Which files of a config group hold a key: what a knob that the chosen file lacks is answered with."""

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from dpo_lab.config.source import Source

GLOBAL = "_global_"


def holders(source: Source, group: str, key: str) -> list[str]:
    """Names of the files of `group` that hold the dotted `key`, read one by one and not composed; sorted.

    A file that stands elsewhere than under its group's name (``# @package _global_``) holds nothing of the group's.
    """
    return sorted(name for name, node in _files(source, group) if key in _dotted_keys(node))


def refuse(choice: str, group: str, key: str, takers: list[str]) -> str:
    """Why `key` is no key of `choice`, and where it would be one.

    >>> refuse("ipo", "loss", "gamma", ["simpo", "slic"])
    'ipo does not take gamma; choices of loss that do: simpo, slic'
    """
    return f"{choice} does not take {key}; choices of {group} that do: {', '.join(takers)}"


def _files(source: Source, group: str) -> Iterator[tuple[str, DictConfig]]:
    _, repository = source.loader._parse_overrides_and_create_caching_repo(source.config_name, [*source.searchpath])
    for name in repository.get_group_options(group):
        found = repository.load_config(f"{group}/{name}")
        if found is not None and found.header.get("package") != GLOBAL and isinstance(found.config, DictConfig):
            yield name, found.config


def _dotted_keys(node: DictConfig, path: str = "") -> Iterator[str]:
    for name in node:
        if name in ("_target_", "defaults"):
            continue
        key = f"{path}{name}"
        yield key
        child = None if OmegaConf.is_missing(node, name) else node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _dotted_keys(child, f"{key}.")
