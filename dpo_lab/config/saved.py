"""The config that a run was made with, read back to be run again: with other values, and never with other code.

A run folder may come from anyone. So what it names is taken only from what this installation ships, or from packages
that the command line itself allows; nothing in it is interpolated, so no resolver is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dpo_lab.config.check import ConfigError, find_faults
from dpo_lab.config.experiment import Seeds
from dpo_lab.config.overrides import malformed_key, review
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR
from dpo_lab.resume import ResumeSettings
from dpo_lab.run.redaction import REDACTED
from dpo_lab.sampling import SampleSettings
from dpo_lab.sweep.settings import SweepSettings

TARGET = "_target_"
TRUSTS_CODE = "trust_remote_code"
"""Of a model: whether code that comes with it is run."""


def saved_config(saved: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`saved` with `overrides` on it, checked as a composed config is.

    A group (``loss=ipo``) is taken from the files that are there now. A top-level key that the run did not have yet has
    its default.

    Args:
        saved: what config.yaml holds, plain and not resolved.

    Raises:
        ConfigError: with every fault of the overrides and of the config that they make; and for code that it names, or
            a secret that was not kept, which the overrides do not give.
    """
    parsed = _parse(overrides)
    config = {**_later_defaults(), **saved}
    for key, node in _groups(parsed).items():
        config = _put(config, key, node)
    for override in parsed:
        if override.is_delete():
            config = _without(config, override.key_or_group)
        elif not _is_group(override):
            config = _put(config, override.key_or_group, override.value())
    faults = [*_foreign(config, overrides), *_unresolved(config)]
    if not faults:
        faults = find_faults(config)
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    return config


def _later_defaults() -> dict[str, Any]:
    """Of top-level keys that runs of earlier versions may lack."""
    return {
        "start": None,
        "seeds": asdict(Seeds()),
        "fresh": False,
        "resume": asdict(ResumeSettings()),
        "sweep": asdict(SweepSettings()),
        "samples": asdict(SampleSettings()),
        "plugins": [],
    }


def _foreign(config: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[str]:
    """Code that is neither shipped nor allowed by the command line."""
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    plugins = config.get("plugins")
    if plugins and "plugins" not in given:
        named = ",".join(map(str, plugins)) if isinstance(plugins, list) else str(plugins)
        yield (
            f"plugins: the saved config names packages outside of dpo_lab, whose code would be run: {named}; if you "
            f"trust them, say plugins=[{named}]"
        )
    for path, node in _nodes(config):
        if node.get(TRUSTS_CODE) and f"{path}.{TRUSTS_CODE}" not in given:
            key = f"{path}.{TRUSTS_CODE}"
            yield f"{key}: the saved config would run code that comes with the model; if you trust it, say {key}=true"
        target = node.get(TARGET)
        is_own = str(target).startswith("dpo_lab.")
        if is_own and target not in shipped_targets():
            yield f"{path}.{TARGET}: {target} is named by no file of {CONF_DIR}, so a saved config may not name it"


@cache
def shipped_targets() -> frozenset[str]:
    """What the files of the config groups name: all that a config without plugins can build."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = (yaml.load(file.read_text(encoding="utf-8"), Loader=loader) for file in CONF_DIR.rglob("*.yaml"))
    return frozenset(str(node[TARGET]) for file in files for _, node in _nodes(file) if TARGET in node)


def _unresolved(config: Mapping[str, Any]) -> Iterator[str]:
    """Values that are no values: what would be interpolated, and secrets that were struck out."""
    for path, value in _leaves(config):
        if "${" in value:
            yield f"{path}: would be looked up ({value}), and a saved config is resolved; give {path}=VALUE"
        elif REDACTED in value:
            yield f"{path}: was not kept, since it is a secret; give {path}=VALUE"


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser, parsed, faults = OverridesParser.create(), [], []
    for text in overrides:
        if fault := malformed_key(text):
            faults.append(fault)
            continue
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException:
            faults.append(f"{text}: not an override; write key=value, for example loss.beta=0.2")
            continue
        if override.is_sweep_override():
            faults.append(f"{text}: several values are a sweep; give one")
        elif override.is_hydra_override():
            faults.append(f"{text}: nothing is composed here, so there is nothing of Hydra's to set")
        parsed.append(override)
    if faults:
        raise ConfigError(*faults)
    return parsed


def _is_group(override: Override) -> bool:
    return override.key_or_group in _group_names() and isinstance(override.value(), str)


@cache
def _group_names() -> frozenset[str]:
    return frozenset(path.relative_to(CONF_DIR).as_posix() for path in CONF_DIR.rglob("*") if path.is_dir())


def _groups(parsed: Sequence[Override]) -> dict[str, Any]:
    """The node of each chosen group, by where it stands in a config."""
    chosen = [override for override in parsed if _is_group(override)]
    if not chosen:
        return {}
    texts = [override.input_line or override.get_key_element() for override in chosen]
    reviewed = review(texts, Source(str(CONF_DIR), "train"), multirun=False)
    if reviewed.faults:
        raise ConfigError(*reviewed.faults)
    (composed,) = reviewed.configs
    places = [override.package or override.key_or_group.split("/")[0] for override in chosen]
    if strange := [place for place in places if place in ("experiment", "recipe")]:
        raise ConfigError(
            *(f"{place}: a saved config is whole, and takes no {place}; give single values" for place in strange)
        )
    plain: dict[str, Any] = {}
    for place in places:
        node = OmegaConf.select(composed, place)
        is_node = isinstance(node, DictConfig)
        plain[place] = OmegaConf.to_container(node, resolve=True) if is_node else node
    return plain


def _put(config: Mapping[str, Any], key: str, node: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    inner = config.get(head)
    return {**config, head: _put(inner if isinstance(inner, Mapping) else {}, rest, node) if rest else node}


def _without(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    if head not in config or (rest and not isinstance(config[head], Mapping)):
        raise ConfigError(f"~{key}: the saved config has no such key")
    if rest:
        return {**config, head: _without(config[head], rest)}
    return {name: value for name, value in config.items() if name != head}


def _nodes(value: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All mappings inside, with their dotted places."""
    if isinstance(value, Mapping):
        yield path, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _nodes(inner, f"{path}.{key}" if path else str(key))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """All texts inside, keys included, with their dotted places."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        place = f"{path}.{key}" if path else str(key)
        yield place, str(key)
        if isinstance(inner, str):
            yield place, inner
        yield from _leaves(inner, place)
