"""From the blocks of a plan and a command line to the runs that they ask for: composed, checked, each once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dpo_lab.config import find_faults
from dpo_lab.config.overrides import review_each
from dpo_lab.config.source import Source
from dpo_lab.config.spelling import did_you_mean, nearest
from dpo_lab.plan.shape import LOSS, Cell, Factor, Setting
from dpo_lab.run.identity import COSMETIC_KEYS, canonical_json, without

COMMAND_LINE = "the command line"


class PlannedRun(NamedTuple):
    """One run of a plan: what to type for it, and the resolved config that this makes."""

    overrides: tuple[str, ...]
    config: dict[str, Any]


@dataclass
class Planned:
    """The runs of a plan, `num_repeated` that say the same as an earlier one left out; `faults` where it cannot run."""

    runs: list[PlannedRun] = field(default_factory=list)
    num_repeated: int = 0
    faults: list[str] = field(default_factory=list)


def plan_runs(cells: Sequence[Cell], overrides: Sequence[str], source: Source, *, is_here: bool = True) -> Planned:
    """What `cells` stand for where `overrides` are typed behind the plan's name.

    A key that is typed is set in every cell, instead of what the plan says, and several values (``seed=1,2``) are as
    many cells; a loss that is typed leaves the cells with this loss. Runs that differ in nothing but what never enters
    a run's id are one.

    Args:
        is_here: whether it is this machine that will run them.
    """
    typed, faults = _read(overrides)
    if faults:
        return Planned(faults=faults)
    chosen, faults = _with_typed(cells, typed)
    if faults:
        return Planned(faults=faults)
    seen: set[str] = set()
    planned = Planned()
    distinct: dict[str, Cell] = {}
    for cell in chosen:
        distinct.setdefault(repr(sorted((key, repr(setting.value)) for key, setting in cell.items())), cell)
    planned.num_repeated = len(chosen) - len(distinct)
    chosen = list(distinct.values())
    all_texts = [_texts(cell) for cell in chosen]
    for cell, texts, reviewed in zip(chosen, all_texts, review_each(all_texts, source), strict=True):
        config = reviewed.configs[0] if reviewed.configs else None
        found = list(reviewed.faults)
        if config is not None:
            texts, wrong = _with_multiples(cell, config)
            found += wrong
            found += [] if found else find_faults(config, is_here=is_here)
        if found or config is None:
            planned.faults += _placed(found, cell)
            continue
        plain = _plain(config)
        content = canonical_json(without(plain, set(COSMETIC_KEYS)))
        if content in seen:
            planned.num_repeated += 1
        else:
            seen.add(content)
            planned.runs.append(PlannedRun(tuple(texts), plain))
    planned.faults = list(dict.fromkeys(planned.faults))
    return planned


def write_override(key: str, value: Any) -> str:
    """`value`, as YAML gives it, in the words of the command line.

    >>> write_override("loss", "trl_1_16/ipo"), write_override("name", "0.5"), write_override("data.path", None)
    ('loss=trl_1_16/ipo', 'name="0.5"', 'data.path=null')
    """
    return f"{key}={_written(value)}"


def _written(value: Any, *, is_inside: bool = False) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(item, is_inside=True)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_written(item, is_inside=True) for item in value) + "]"
    if not isinstance(value, str):
        return repr(value)
    try:
        parsed = OverridesParser.create().parse_override(f"key={value}")
        is_plain = not parsed.is_sweep_override() and parsed.value() == value and not (is_inside and not value)
    except HydraException:
        is_plain = False
    return value if is_plain else QuotedString(value, Quote.double).with_quotes()


def _read(overrides: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """By key, the overrides of one value each that a command line stands for, and faults."""
    typed: dict[str, list[str]] = {}
    faults = []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
            values = list(override.sweep_string_iterator()) if override.is_sweep_override() else None
        except HydraException as error:
            faults.append(f"{text}: {' '.join(str(error).split())}")
            continue
        key = override.get_key_element()
        typed[key] = [text] if values is None else [f"{key}={value}" for value in values]
    return typed, faults


def _with_typed(cells: Sequence[Cell], typed: Mapping[str, list[str]]) -> tuple[list[Cell], list[str]]:
    losses = list(dict.fromkeys(_text(LOSS, cell[LOSS]) for cell in cells if LOSS in cell))
    if LOSS in typed and losses:
        names = [text.partition("=")[2] for text in losses]
        unknown = [text for text in typed[LOSS] if text not in losses]
        if unknown:
            suggestion = nearest(unknown[0].partition("=")[2], names)
            return [], [f"{unknown[0]}: no loss of this plan{did_you_mean(suggestion, names, 'its losses')}"]
        cells = [cell for cell in cells if LOSS in cell and _text(LOSS, cell[LOSS]) in typed[LOSS]]
        typed = {key: texts for key, texts in typed.items() if key != LOSS}
    ways = [
        {key: Setting(Typed(text), COMMAND_LINE) for key, text in zip(typed, texts, strict=True)}
        for texts in product(*typed.values())
    ]
    return [{**cell, **way} for cell in cells for way in ways], []


class Typed(NamedTuple):
    """An override as it was typed."""

    text: str


def _texts(cell: Cell) -> list[str]:
    """Overrides of `cell`, but for multiples, which are not known before the rest is composed."""
    return [_text(key, setting) for key, setting in cell.items() if not isinstance(setting.value, Factor)]


def _text(key: str, setting: Setting) -> str:
    return setting.value.text if isinstance(setting.value, Typed) else write_override(key, setting.value)


def _with_multiples(cell: Cell, config: DictConfig) -> tuple[list[str], list[str]]:
    """All overrides of `cell`, its multiples set in `config` too; and faults: what they multiply is no number."""
    texts, faults = [], []
    for key, setting in cell.items():
        if not isinstance(setting.value, Factor):
            texts.append(_text(key, setting))
            continue
        base = OmegaConf.select(config, key, throw_on_missing=False)
        if isinstance(base, bool) or not isinstance(base, int | float):
            faults.append(f"{key}: times multiplies what a run has without it, and that is no number but {base!r}")
            continue
        value = float(f"{base * setting.value.factor:.6g}")
        OmegaConf.update(config, key, value)
        texts.append(write_override(key, value))
    return texts, faults


def _placed(faults: Iterable[str], cell: Cell) -> Iterator[str]:
    """`faults`, which begin with a key or an override, behind the place in the plan that says it."""
    for fault in faults:
        key = fault.partition(":")[0].partition("=")[0]
        setting = cell.get(key)
        yield fault if setting is None or setting.place == COMMAND_LINE else f"{setting.place}: {fault}"


def _plain(config: DictConfig) -> dict[str, Any]:
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))
