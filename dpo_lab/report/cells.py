"""Cells of an ablation: runs that differ by their seeds alone, named by whatever else differs between them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from dpo_lab.errors import UserError
from dpo_lab.report.records import RunRecord
from dpo_lab.report.select import matches, parse_conditions, shown, unknown_keys
from dpo_lab.run.identity import CONTENT_OF, COSMETIC_KEYS, says_nothing

SEED_KEYS = ("seed", "seeds")
ABSENT = "-"
BETA = "loss.beta"


@final
@dataclass(frozen=True)
class Cell:
    """Finished runs of one config, one a seed, in the order of their seeds.

    `factors` are the keys by which the cells of a report differ, those that the loss decides left out; `config` is
    whole. `repeats` are further runs of a seed that is already there.
    """

    factors: dict[str, Any]
    config: dict[str, Any]
    runs: dict[str, RunRecord]
    repeats: tuple[RunRecord, ...] = ()

    @property
    def label(self) -> str:
        """How it is written and chosen: ``loss=ipo loss.beta=0.1``."""
        return " ".join(f"{key}={shown(value)}" for key, value in self.factors.items())

    @property
    def loss(self) -> str:
        return str(self.config.get("loss", ABSENT))

    @property
    def beta(self) -> float | None:
        value = self.config.get(BETA)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def family(self) -> str:
        """The cell less its beta: cells of one family are one line over beta."""
        rest = {key: value for key, value in self.factors.items() if key != BETA}
        return " ".join(f"{key}={shown(value)}" for key, value in rest.items()) or f"loss={self.loss}"

    def last(self, metric: str) -> dict[str, float]:
        """The last value of a curve, by seed; nan where a run has none."""
        return {seed: run.last(metric) for seed, run in self.runs.items()}

    def chosen_by(self, selector: str) -> bool:
        """Whether all conditions of `selector` hold of its config."""
        return matches(parse_conditions(selector), {**self.config, **self.factors})


def make_cells(records: Iterable[RunRecord], seed_keys: Sequence[str] = SEED_KEYS) -> list[Cell]:
    """Group `records` (finished, readable) into cells, ordered by loss, then by the values of what differs."""
    members: defaultdict[tuple[tuple[str, str], ...], list[tuple[RunRecord, dict[str, Any]]]] = defaultdict(list)
    all_records = list(records)
    contents = _content_factors(all_records, seed_keys)
    for record in all_records:
        config = _decisive(record, seed_keys) | {
            name: _hashes(record).get(content) for name, content in contents.items()
        }
        members[tuple(sorted((key, shown(value)) for key, value in config.items()))].append((record, config))
    configs = [group[0][1] for group in members.values()]
    keys = _factor_keys(configs)
    cells = []
    for group in members.values():
        config = group[0][1]
        factors = {key: config[key] for key in keys if key in config}
        runs, repeats = _by_seed([record for record, _ in group], seed_keys)
        cells.append(Cell(factors or {"loss": config.get("loss", ABSENT)}, config, runs, repeats))
    return sorted(cells, key=lambda cell: [_order(cell.factors.get(key)) for key in ("loss", *keys)])


def choose_cell(cells: Sequence[Cell], selector: str) -> Cell:
    """The one cell that `selector` names.

    Raises:
        UserError: none or several cells are named, or a key that none has; the message lists the cells.
    """
    chosen = choose_cells(cells, selector)
    if len(chosen) > 1:
        labels = "\n  ".join(cell.label for cell in chosen)
        raise UserError(f"{selector!r} names {len(chosen)} cells; say more to name one:\n  {labels}")
    return chosen[0]


def choose_cells(cells: Sequence[Cell], selector: str) -> list[Cell]:
    """All cells that `selector` names, at least one.

    Raises:
        UserError: no cell is named, or a key that none has; the message lists the cells.
    """
    unknown = unknown_keys(
        parse_conditions(selector), {key for cell in cells for key in {**cell.config, **cell.factors}}
    )
    chosen = [] if unknown else [cell for cell in cells if cell.chosen_by(selector)]
    if not chosen:
        labels = "\n  ".join(cell.label for cell in cells)
        raise UserError("\n  ".join([f"{selector!r} names no cell", *unknown, "cells:"]) + f"\n  {labels}")
    return chosen


def default_baseline(cells: Sequence[Cell]) -> Cell:
    """`sigmoid` where there is one, at the beta nearest to 0.1 and with the most seeds; else the first cell."""
    sigmoid = [cell for cell in cells if cell.loss == "sigmoid"] or list(cells)
    return min(sigmoid, key=lambda cell: (abs((cell.beta or 0.1) - 0.1), -len(cell.runs), cell.label))


def seed_label(config: Mapping[str, Any], seed_keys: Sequence[str] = SEED_KEYS) -> str:
    """What tells runs of one cell apart: the seed, and whichever single seeds are set by hand.

    >>> seed_label({"seed": 3, "seeds.order": None, "seeds.init": 7})
    '3 seeds.init=7'
    """
    rest = [
        f"{key}={shown(value)}"
        for key, value in config.items()
        if key != "seed" and value is not None and _is_below(key, seed_keys)
    ]
    return " ".join([shown(config.get("seed", ABSENT)), *rest])


def _by_seed(records: list[RunRecord], seed_keys: Sequence[str]) -> tuple[dict[str, RunRecord], tuple[RunRecord, ...]]:
    """The first attempt of each seed, and the others: choosing among attempts by their result would be a fault."""
    runs: dict[str, RunRecord] = {}
    repeats = []
    for record in sorted(records, key=lambda record: (str(record.info.get("started", "")), record.name)):
        seed = seed_label(record.config, seed_keys)
        if seed in runs:
            repeats.append(record)
        else:
            runs[seed] = record
    return dict(sorted(runs.items(), key=lambda item: _order(item[0]))), tuple(repeats)


def _decisive(record: RunRecord, seed_keys: Sequence[str]) -> dict[str, Any]:
    """The config less what cannot move a number, seeds, and paths whose content is known by its hash."""
    by_content = [path for path, content in CONTENT_OF.items() if content in _hashes(record)]
    left_out = (*COSMETIC_KEYS, *seed_keys, *by_content, "plugins")
    config = {
        key: value
        for key, value in record.config.items()
        if not _is_below(key, left_out) and not says_nothing(key, value)
    }
    typed = next((word.partition("=")[2] for word in record.overrides if word.startswith("loss=")), "")
    # Presets of other libraries share a function: what was typed tells more than the function's name.
    return config | ({"loss": typed} if "/" in typed else {})


def _content_factors(records: list[RunRecord], seed_keys: Sequence[str]) -> dict[str, str]:
    """Contents (data, weights, ...) that differ between runs of one config and one seed, or whose path is a factor."""
    found: dict[str, str] = {}
    for content in dict.fromkeys(CONTENT_OF.values()):
        by_seed: defaultdict[str, set[Any]] = defaultdict(set)
        for record in records:
            config = {key: shown(value) for key, value in _decisive(record, seed_keys).items()}
            key = (seed_label(record.config, seed_keys), *sorted(config.items()))
            by_seed[str(key)].add(_hashes(record).get(content))
        if any(len(values) > 1 for values in by_seed.values()):
            found[f"{content} (hash)"] = content
    return found


def _factor_keys(configs: list[dict[str, Any]]) -> list[str]:
    """Keys with several values over `configs`, less those that only repeat what the loss says."""
    names = dict.fromkeys(key for config in configs for key in config)
    varying = [key for key in names if len({shown(config.get(key, ABSENT)) for config in configs}) > 1]
    kept = [key for key in varying if key == "loss" or not _is_decided_by_loss(key, configs)]
    return sorted(kept, key=lambda key: (key != "loss", key != BETA, key))


def _is_decided_by_loss(key: str, configs: list[dict[str, Any]]) -> bool:
    by_loss: defaultdict[str, set[str]] = defaultdict(set)
    for config in configs:
        by_loss[shown(config.get("loss"))].add(shown(config.get(key, ABSENT)))
    known = {value for values in by_loss.values() for value in values} - {ABSENT}
    # Two losses at two betas: the beta may be what makes the difference, and is told.
    is_told = key == BETA and len(known) > 1
    return len(by_loss) > 1 and not is_told and all(len(values) == 1 for values in by_loss.values())


def _hashes(record: RunRecord) -> Mapping[str, Any]:
    hashes = record.info.get("hashes")
    return hashes if isinstance(hashes, Mapping) else {}


def _is_below(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before texts."""
    try:
        return False, float(value), ""
    except (TypeError, ValueError):
        return True, 0.0, shown(value)
