"""What a plan file may hold, and the cells that its blocks stand for; of configs it knows nothing but dotted keys."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypedDict

from dpo_lab.plan.search_shape import Search

LOSS = "loss"


class Times(TypedDict):
    """Multiples of what a run would have without this: a grid that fits every model, whose recipe has its own value."""

    times: list[float]


class Block(TypedDict, total=False):
    """Cells, as every combination of what its parts say. Keys are dotted, as on the command line.

    `set`: values of all cells, unless a part says otherwise. `grid`: every combination of values. `zip`: the first
    value of each key, then the second of each. `list`: one alternative an entry. `losses`: one alternative a loss, with
    a block of its own. `blocks`: the same for anything else.
    """

    set: dict[str, Any]
    grid: dict[str, list[Any] | Times]
    zip: dict[str, list[Any]]
    losses: dict[str, "Block"]
    blocks: list["Block"]
    list: list[dict[str, Any]]  # the last: below it the name means this


class Plan(Block, total=False):
    """A whole file: a block, with a sentence `about` what it asks; or `set` and a `search`, whose trials are cells."""

    about: str
    search: Search


PARTS = ("grid", "zip", "list", "losses", "blocks")


class Factor(NamedTuple):
    """One of `Times`."""

    factor: float


@dataclass(frozen=True)
class Setting:
    """A value of one key, and where in the file it is said."""

    value: Any
    place: str


Cell = dict[str, Setting]


def find_part_faults(block: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What is wrong with the parts of a well-formed block: nothing to vary, or lists of different lengths."""
    for name in PARTS:
        part = block.get(name)
        if part is not None and not part:
            yield f"{_join(path, name)}: is empty; say something to vary, or leave it out"
    for key, values in block.get("grid", {}).items():
        if not (values["times"] if isinstance(values, Mapping) else values):
            yield f"{_join(path, 'grid')}.{key}: has no value"
    lengths = {key: len(values) for key, values in block.get("zip", {}).items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        yield f"{_join(path, 'zip')}: all keys need as many values: {told}"
    elif 0 in lengths.values():
        yield f"{_join(path, 'zip')}: has no value"
    for name, inner in _inner(block, path):
        yield from find_part_faults(inner, name)


def expand(block: Mapping[str, Any], path: str = "") -> tuple[list[Cell], list[str]]:
    """The cells of a well-formed block, in the order of the file with its last key moving fastest; and faults: a key
    that two parts set.
    """
    faults: list[str] = []
    factors = [_alternatives(name, block[name], _join(path, name), faults) for name in block if name in PARTS]
    base = {key: Setting(value, _join(path, "set")) for key, value in block.get("set", {}).items()}
    cells: list[Cell] = []
    for chosen in product(*factors):
        cell: Cell = {}
        for part in chosen:
            for key, setting in part.items():
                if key in cell:
                    faults.append(f"{setting.place}: {key} is set by {cell[key].place} already")
                cell[key] = setting
        cells.append({**base, **cell})
    return cells, list(dict.fromkeys(faults))


def _alternatives(name: str, part: Any, path: str, faults: list[str]) -> list[Cell]:
    """What one part of a block offers, one cell an alternative."""
    if name == "list":
        return [
            {key: Setting(value, f"{path}[{number}]") for key, value in entry.items()}
            for number, entry in enumerate(part)
        ]
    if name == "zip":
        return [_cell(part, row, path) for row in zip(*part.values(), strict=True)]
    if name == "grid":
        return [_cell(part, row, path) for row in product(*map(_values, part.values()))]
    found: list[Cell] = []
    for key, inner in part.items() if isinstance(part, Mapping) else enumerate(part):
        here = f"{path}.{key}" if isinstance(part, Mapping) else f"{path}[{key}]"
        cells, inside = expand(inner, here)
        faults += inside
        chosen = {LOSS: Setting(key, here)} if name == "losses" else {}
        found += [{**chosen, **cell} for cell in cells]
    return found


def _values(values: Sequence[Any] | Mapping[str, Any]) -> Iterable[Any]:
    return [Factor(factor) for factor in values["times"]] if isinstance(values, Mapping) else values


def _cell(keys: Iterable[str], row: Iterable[Any], path: str) -> Cell:
    return {key: Setting(value, path) for key, value in zip(keys, row, strict=True)}


def _inner(block: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for loss, inner in block.get("losses", {}).items():
        yield f"{_join(path, 'losses')}.{loss}", inner
    for number, inner in enumerate(block.get("blocks", [])):
        yield f"{_join(path, 'blocks')}[{number}]", inner


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
