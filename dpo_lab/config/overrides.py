"""The overrides of a command line, one by one against the config that they change.

Hydra stops at the first override that it cannot apply. `review` applies what can be applied, says of everything
else what is wrong with it, and hands on the configs that the command would run, for `dpo_lab.config.check`.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from dpo_lab.config.source import Source
from dpo_lab.config.spelling import did_you_mean, nearest
from dpo_lab.config.unknown_key import unknown_key

PLANS = "sweep"
"""The folder of plans is a group to Hydra, as every folder of configs is; nothing of it is chosen for a run."""

OTHER_NAMES = {"dpo": "sigmoid", "cdpo": "sigmoid"}
"""What papers and other libraries call an option. (Names of a library stand in a folder of the group.)"""

BY_PATH = {"model": "model=causal_lm model.path={}", "data": "data=files data.path={}"}
"""How a group is given what its options are often mistaken for: a folder, a file, a name on the hub."""


@dataclass
class Review:
    """`faults` of the overrides themselves, and `configs`: one per value that a sweep takes, else one in all."""

    faults: list[str] = field(default_factory=list)
    configs: list[DictConfig] = field(default_factory=list)


def review(overrides: list[str], source: Source, *, multirun: bool) -> Review:
    """Apply `overrides` to the primary config of `source`, collecting what cannot be applied.

    Overrides of ``hydra.`` are left to Hydra. Of a sweep, every value is tried once with the first value of all
    others, so that the work grows with the sum of the choices and not with their product.
    """
    searchpath = tuple(text for text in overrides if text.startswith("hydra.searchpath="))
    reviewer = _Reviewer(replace(source, searchpath=searchpath))
    choices = [reviewer.choices(override) for override in reviewer.parse(overrides)]
    variants = list(_one_at_a_time([choice for choice in choices if choice]))
    configs = [config for variant in variants if (config := reviewer.apply(variant)) is not None]
    if not (multirun or any(OmegaConf.select(config, "hydra.mode") == RunMode.MULTIRUN for config in configs)):
        reviewer.faults += [_needs_a_sweep(override) for override in reviewer.sweeps]
    return Review(list(dict.fromkeys(reviewer.faults)), configs)


def review_each(cells: Iterable[Sequence[str]], source: Source) -> Iterator[Review]:
    """Each of `cells`, sets of overrides with one value each, by itself: its faults, and at most one config."""
    reviewer = _Reviewer(source)
    for cell in cells:
        reviewer.faults, reviewer.sweeps = [], []
        choices = [reviewer.choices(override) for override in reviewer.parse(list(cell))]
        config = reviewer.apply([choice[0] for choice in choices if choice])
        faults = reviewer.faults + [_needs_a_sweep(override) for override in reviewer.sweeps]
        yield Review(list(dict.fromkeys(faults)), [] if config is None else [config])


def _one_at_a_time(choices: list[list[Override]]) -> Iterator[list[Override]]:
    first = [choice[0] for choice in choices]
    yield first
    for position, choice in enumerate(choices):
        for other in choice[1:]:
            yield [*first[:position], other, *first[position + 1 :]]


@final
class _Reviewer:
    """Collects faults while a command line's overrides are read and applied."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.faults: list[str] = []
        self.sweeps: list[Override] = []
        self._unknown: set[str] = set()  # groups whose option is not known, so that nothing is said of their keys
        self._known: dict[str, list[str]] = {}  # options by group
        self._composed: dict[tuple[str, ...], DictConfig | None] = {}
        self._parsed: dict[str, list[Override]] = {}
        self._parser = OverridesParser.create(config_loader=source.loader)

    def parse(self, overrides: list[str]) -> list[Override]:
        return [override for text in overrides for override in self._parse(text) if not override.is_hydra_override()]

    def _parse(self, text: str) -> list[Override]:
        if text not in self._parsed:
            if fault := malformed_key(text):
                self.faults.append(fault)
                return []
            try:
                # The plural one alone knows what a glob ranges over.
                self._parsed[text] = self._parser.parse_overrides([text])
            except HydraException:
                self.faults.append(_unreadable(text))
                return []
        return self._parsed[text]

    def choices(self, override: Override) -> list[Override]:
        """The single-valued overrides that a sweep stands for; group options that do not exist are replaced."""
        key = override.get_key_element()
        if override.is_sweep_override():
            self.sweeps.append(override)
            texts = [f"{key}={value}" for value in _sweep_values(override)]
            singles = self._parser.parse_overrides(texts)
        else:
            singles = [override]
        if not self._is_group(override):
            return singles
        if override.key_or_group.partition("/")[0] == PLANS:
            self.faults.append(
                f"{_text(override)}: a plan is no choice of a run; it is run by dpo-lab sweep {override.value()}"
            )
            return []
        known = [self._known_option(single) for single in singles]
        return [option for option in known if option is not None]

    def _is_group(self, override: Override) -> bool:
        # A group's parts are joined by "/": looking for one costs Hydra 30 ms, and most overrides are dotted keys.
        is_value = isinstance(override.value(), dict) or override.is_delete() or "." in override.key_or_group
        return not is_value and self._options(override.key_or_group) is not None

    def _options(self, group: str) -> list[str] | None:
        """Names of the files of `group`; None where no such group exists."""
        if group not in self._known:
            self._known[group] = self.source.options(group)
        return self._known[group] or ([] if group in self.source.groups() else None)

    def _options_beside(self, group: str, name: str) -> list[str]:
        """Options in the folder of the group that `name` (``trl_1_16/ipo``) names, with it; else all of `group`."""
        folder, slash, _ = name.rpartition("/")
        inside = self._options(f"{group}/{folder}") if slash else None
        return [f"{folder}/{option}" for option in inside] if inside else self._options(group) or []

    def _known_option(self, override: Override) -> Override | None:
        """`override` where its option exists; else, with a fault, the nearest option, to judge other overrides by."""
        group, value = override.key_or_group, override.value()
        names = value if isinstance(value, list) else [value]
        wrong = [name for name in names if name not in self._options_beside(group, str(name))]
        if not wrong:
            return override
        options = self._options_beside(group, str(wrong[0]))
        suggestion = self._meant(group, str(wrong[0]), options)
        by_path = BY_PATH.get(group)
        asked = f"; for one of your own: {by_path.format(wrong[0])}" if by_path and suggestion is None else ""
        self.faults.append(f"{_text(override)}: no such {group}{asked}{did_you_mean(suggestion, options)}")
        if suggestion is None:
            self._unknown.add(group)
            return None
        return self._parser.parse_override(f"{override.get_key_element()}={suggestion}")

    def _meant(self, group: str, name: str, options: list[str]) -> str | None:
        """The option that a wrong name most likely means: what is called so elsewhere, else the nearest in spelling."""
        if OTHER_NAMES.get(name.lower()) in options:
            return OTHER_NAMES[name.lower()]
        folders = sorted(self.source.folders(group), reverse=True)  # the newest of a library first
        inside = [f"{folder}/{name}" for folder in folders if name in (self._options(f"{group}/{folder}") or [])]
        return inside[0] if inside else nearest(name, options)

    def apply(self, overrides: list[Override]) -> DictConfig | None:
        """The config with every override that fits; None where not even the group choices compose."""
        chosen = tuple(_text(override) for override in overrides if self._is_group(override))
        if chosen not in self._composed:
            self._composed[chosen] = self._compose(list(chosen))
        base = self._composed[chosen]
        if base is None:
            return None
        config = deepcopy(base)
        for override in overrides:
            if not self._is_group(override) and override.key_or_group.split(".")[0] not in self._unknown:
                self._set(config, override)
        return config

    def _compose(self, texts: list[str]) -> DictConfig | None:
        try:
            return self.source.compose(texts)
        except HydraException as error:
            if not texts:
                self.faults.append(_one_line(error))
                return None
        kept: list[str] = []
        for text in texts:
            try:
                self.source.compose([*kept, text])
                kept.append(text)
            except HydraException as error:
                self.faults.append(f"{text}: {_one_line(error)}")
        return self._compose(kept) if kept != texts else None

    def _set(self, config: DictConfig, override: Override) -> None:
        key = override.key_or_group
        if override.package is not None:
            self._say_unknown(config, override)
        elif override.is_delete():
            self._delete(config, override)
        elif override.is_add() and OmegaConf.select(config, key, throw_on_missing=False) is not None:
            self.faults.append(f"{_text(override)}: {key} is there already; write {_text(override)[1:]}")
        else:
            is_new = override.is_add() or override.is_force_add()
            try:
                OmegaConf.update(config, key, override.value(), merge=True, force_add=is_new)
            except (ConfigAttributeError, ConfigKeyError):
                self._say_unknown(config, override)
            except OmegaConfBaseException as error:
                self.faults.append(f"{_text(override)}: {_one_line(error)}")

    def _delete(self, config: DictConfig, override: Override) -> None:
        parent, _, name = override.key_or_group.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if not isinstance(node, DictConfig) or name not in node:
            self._say_unknown(config, override)
            return
        with open_dict(config):
            del node[name]

    def _say_unknown(self, config: DictConfig, override: Override) -> None:
        fault = unknown_key(config, override.key_or_group, self.source, self._options)
        self.faults.append(f"{_text(override)}: {fault}")


def malformed_key(text: str) -> str | None:
    """What is wrong with the key of an override, whatever its value: nothing, blanks, or an empty part of it."""
    key, equals, value = text.partition("=")
    name = key.lstrip("+~").partition("@")[0]
    if not key.strip("+~ ") and (equals or key):
        return f"{text}: no key before the value; write key=value, for example loss=sigmoid"
    if not equals or key.startswith("-"):
        return None
    if key != key.strip():
        return f"{text}: no blanks around the equals sign: {key.strip()}={value.strip()}"
    if "" in name.replace("/", ".").split("."):
        return f"{text}: a part of the key is empty; write group.knob=value, for example loss.beta=0.2"
    return None


def _sweep_values(override: Override) -> list[str]:
    """Every choice of a list; of a range or an interval, the two ends."""
    if override.value_type == ValueType.INTERVAL_SWEEP:
        interval: Any = override.value()
        return [str(interval.start), str(interval.end)]
    values = list(override.sweep_string_iterator())
    return [values[0], values[-1]] if override.is_range_sweep() and values else values


def _text(override: Override) -> str:
    return override.input_line or override.get_key_element()


def _needs_a_sweep(override: Override) -> str:
    text = _text(override)
    key, _, value = text.partition("=")
    quoted = shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
    return f"{text}: several values are a sweep, which needs -m; a list is {key}=[{value}], one text is {quoted}"


def _unreadable(text: str) -> str:
    key, equals, value = text.partition("=")
    if not text.strip():
        return "'': an empty argument; write key=value, for example loss=sigmoid"
    if text.startswith("-"):
        return f"{text}: no such flag; a knob is written without dashes: key=value"
    if not equals:
        return f"{text}: not an override; write key=value, for example loss=sigmoid"
    quoted = shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
    return f"{text}: this value needs quotes, for Hydra and for the shell: {quoted}"


def _one_line(error: BaseException) -> str:
    cause = error.__cause__ if not str(error) and error.__cause__ else error
    return " ".join(str(cause).split())
