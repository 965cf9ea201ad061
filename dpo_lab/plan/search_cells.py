"""From a search to cells: what a trial sets, what its trials could set at most, and what is typed about the search."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from dpo_lab.plan.search_shape import Search
from dpo_lab.plan.shape import LOSS, Cell, Factor, Setting

TYPED = "search."


def cell_of(params: Mapping[str, Any], search: Search) -> Cell:
    """What a trial sets: its parameters by name, which is the dotted key, behind ``LOSS:`` where it is one loss's own.

    Numbers are rounded to six digits: they become part of configs that people read and type.
    """
    cell: Cell = {}
    for name, drawn in params.items():
        loss, _, key = name.rpartition(":")
        values = (search.losses[loss] if loss else search.space).get(key)
        value = float(f"{drawn:.6g}") if isinstance(drawn, float) else drawn
        is_multiple = isinstance(values, Mapping) and values.get("times", False)
        cell[key] = Setting(Factor(value) if is_multiple else value, "search")
    return cell


def corners(search: Search) -> list[Cell]:
    """Cells that between them have every choice, and both ends of every range: all that has to fit."""
    found: list[Cell] = []
    for loss in search.losses or [None]:
        chosen = {} if loss is None else {LOSS: Setting(loss, f"search.losses.{loss}")}
        spaces = {"search.space": search.space}
        spaces |= {} if loss is None else {f"search.losses.{loss}": search.losses[loss]}
        values = {key: _ends(space[key], place) for place, space in spaces.items() for key in space}
        first = {**chosen, **{key: settings[0] for key, settings in values.items()}}
        found.append(first)
        found += [{**first, key: other} for key, settings in values.items() for other in settings[1:]]
    return found


def with_typed_search(content: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The content of a plan with what is typed of its search (``search.num_trials=40``), and the other overrides."""
    changed, others = deepcopy(dict(content)), []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            override = None
        if override is None or not text.startswith(TYPED) or override.is_sweep_override():
            others.append(text)
            continue
        *path, last = override.key_or_group.split(".")
        node: Any = changed
        for name in path:
            if not isinstance(node.get(name), dict):
                node[name] = {}
            node = node[name]
        node[last] = override.value()
    return changed, others


def _ends(values: Any, place: str) -> list[Setting]:
    if isinstance(values, list):
        return [Setting(value, place) for value in values]
    ends = (values["low"], values["high"])
    return [Setting(Factor(end) if values.get("times") else end, place) for end in ends]
