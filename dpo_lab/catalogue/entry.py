"""One loss as the catalogue knows it, and all of them."""

import itertools
import sys
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from omegaconf import OmegaConf

from dpo_lab.catalogue.arguments import Argument, read_arguments
from dpo_lab.catalogue.docstring import Docstring, read_docstring
from dpo_lab.config.signature import locate, read_target
from dpo_lab.config.source import Source
from dpo_lab.config.spelling import did_you_mean, nearest
from dpo_lab.errors import UserError
from dpo_lab.loss.modified import can_be_modified, modified
from dpo_lab.needs import INGREDIENTS, Objective, Term, is_composite
from dpo_lab.paths import CONF_DIR

PACKAGES = ("dpo_lab",)
MODIFIERS = tuple(name for name in read_target(modified).knobs if name != "base")
KINDS = (
    "pairs with a reference",
    "pairs without a reference",
    "single labels",
    "lists",
    "likelihood and mixtures",
)


@dataclass(frozen=True)
class Entry:
    """A loss: its docstring, its knobs, what it needs, and itself with its defaults (`objective`).

    A set of arguments of another library is the loss that it is made of, with the set's values as defaults and what the
    head of its file says as summary.
    """

    name: str
    kind: str
    summary: str
    docstring: Docstring
    arguments: tuple[Argument, ...]
    needs: tuple[str, ...]
    objective: Objective
    function: Any
    config: dict[str, Any]

    @property
    def modifiers(self) -> tuple[str, ...]:
        """Knobs of ``loss=modified`` that act on this loss; none where it refuses it."""
        return MODIFIERS if can_be_modified(self.function) else ()

    def with_knobs(self, **knobs: Any) -> Objective:
        """The same loss with other values of its knobs."""
        return _objective(partial(self.function, **knobs))

    def to_json(self) -> dict[str, Any]:
        """The object that the package's docstring describes."""
        first, *others = [*self.docstring.papers, None]
        return {
            "name": self.name,
            "kind": self.kind,
            "summary": self.summary,
            "formula": self.docstring.formula,
            "notes": list(self.docstring.notes),
            "paper": first and first.arxiv,
            "equation": first and first.equation,
            "further_papers": [paper.arxiv for paper in others if paper],
            "needs": list(self.needs),
            "whole_batch": self.objective.whole_batch,
            "modifiers": list(self.modifiers),
            "arguments": [asdict(argument) for argument in self.arguments],
            "returns": self.docstring.returns,
            "config": self.config,
        }


def names() -> list[str]:
    """Every loss that ``loss=NAME`` can choose, by name."""
    return sorted(file.stem for file in (CONF_DIR / "loss").glob("*.yaml"))


def set_names() -> list[str]:
    """Every set of arguments of another library, ``loss=LIBRARY/NAME``, by name."""
    folder = CONF_DIR / "loss"
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.glob("*/*.yaml"))


def read_entries() -> list[Entry]:
    """All losses: by kind in the order of `KINDS`, then by name."""
    return sorted((read_entry(name) for name in names()), key=lambda entry: KINDS.index(entry.kind))


def read_entry(name: str) -> Entry:
    """The loss, or the set of another library, of that name.

    Raises:
        UserError: where there is none; the message names the nearest.
    """
    is_set = name in set_names()
    if name not in names() and not is_set:
        known = set_names() if "/" in name else names()
        raise UserError(f"{name}: no such loss{did_you_mean(nearest(name, known), known)}")
    node = _node(name)
    loss = locate(node["_target_"], PACKAGES)
    bound = _bind(node)
    docstring = read_docstring(loss)
    objective = _objective(bound)
    needs = tuple(ingredient for ingredient in INGREDIENTS if ingredient in objective.needs)
    return Entry(
        name=name,
        kind=KINDS[-1] if _holds_losses(node) else _kind(needs),
        summary=read_head(name) if is_set else (sys.modules[loss.__module__].__doc__ or "").strip().partition("\n")[0],
        docstring=docstring,
        arguments=read_arguments(loss, _named(node), docstring.arguments),
        needs=needs,
        objective=objective,
        function=bound,
        config=node,
    )


def read_file(name: str) -> str:
    """The file of a loss as it is written, comments included."""
    return (CONF_DIR / "loss" / f"{name}.yaml").read_text(encoding="utf-8")


def read_head(name: str) -> str:
    """The comment at the head of a loss's file, on one line."""
    head = itertools.takewhile(lambda line: line.startswith("#"), read_file(name).splitlines())
    return " ".join(line.removeprefix("#").strip() for line in head)


def _kind(needs: tuple[str, ...]) -> str:
    if "ranking" in needs:
        return "lists"
    if "labels" in needs:
        return "single labels"
    if "pairs" in needs:
        return "pairs with a reference" if "reference" in needs else "pairs without a reference"
    return "likelihood and mixtures"


def _node(name: str) -> dict[str, Any]:
    """The loss's own file; composed where it is made of other losses, which takes longer."""
    node = OmegaConf.load(CONF_DIR / "loss" / f"{name}.yaml")
    if "defaults" in node:
        node = Source(str(CONF_DIR), "train").compose([f"loss={name}"]).loss
    plain: Any = OmegaConf.to_container(node, resolve=True)
    knobs = read_target(locate(plain["_target_"], PACKAGES)).knobs
    return {key: plain[key] for key in ("_target_", *knobs)}


def _bind(value: Any) -> Any:
    """A node as a function with its knobs filled in; anything else as it is, with the nodes inside bound."""
    if not isinstance(value, dict):
        return value
    knobs = {key: _bind(inner) for key, inner in value.items() if key != "_target_"}
    return partial(locate(value["_target_"], PACKAGES), **knobs) if "_target_" in value else knobs


def _named(value: Any) -> Any:
    """`value` with the name of the loss in the place of every node inside it."""
    if not isinstance(value, dict):
        return value
    return {
        key: inner["_target_"].rpartition(".")[2] if isinstance(inner, dict) and "_target_" in inner else _named(inner)
        for key, inner in value.items()
    }


def _holds_losses(node: dict[str, Any]) -> bool:
    return any(isinstance(inner, dict) and ("_target_" in inner or _holds_losses(inner)) for inner in node.values())


def _objective(bound: Any) -> Objective:
    return bound() if is_composite(bound) else Objective((Term(bound.func.__name__, bound),))
