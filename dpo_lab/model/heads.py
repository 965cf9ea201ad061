"""The head of an encoder: kept as its checkpoint has it, or drawn anew on top of the checkpoint's encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch

from dpo_lab.errors import UserError

HeadChoice = Literal["auto", "own", "new"]


@final
@dataclass
class Head:
    """What `model.head` says of one checkpoint; `is_fresh` is known once its model is loaded.

    Attributes:
        choice: "own" keeps the checkpoint's head, "new" draws one, "auto" keeps it where it fits.
        classes: names of the classes in order; None for a head that has none, as that of a span reader.
        seed: of what is drawn.
    """

    choice: HeadChoice
    classes: tuple[str, ...] | None
    seed: int
    is_fresh: bool = field(default=False, init=False)

    def configure(self, config: Any, path: str) -> None:
        """Give `config`, before a model is built from it, the classes that are wanted.

        Raises:
            UserError: the checkpoint's own head is wanted and has other classes.
        """
        if self.classes is None:
            self.is_fresh = self.choice == "new"
            return
        own = classes_of(config)
        has_own = set(own) == set(self.classes)
        is_unnamed = are_unnamed(own) and len(own) == len(self.classes)
        if self.choice == "own" and not has_own and not is_unnamed:
            raise UserError(
                f"model.head=own: the head of {path!r} has the classes {_some(own)}, and the data has "
                f"{_some(self.classes)}; use model.head=new, or name the data's classes as the head does (data.classes)"
            )
        self.is_fresh = self.choice == "new" or (self.choice == "auto" and not has_own)
        if not has_own:
            name_classes(config, self.classes)

    def settle(self, model: Any, loaded: dict[str, Any], path: str) -> None:
        """Draw what `model` is to have anew, and take what was drawn off the list of missing weights in `loaded`.

        The pooler, which checkpoints of masked language models lack, counts to the head.
        """
        missing = set(loaded.get("missing_keys") or ())
        mismatched = {str(entry[0]) for entry in loaded.get("mismatched_keys") or ()}
        mine = {name for name in model.state_dict() if _is_of_head(name, model.base_model_prefix)}
        if not self.is_fresh and missing & mine:
            if self.choice == "own":
                return  # the loader refuses what is missing, by name
            self.is_fresh = True
        if mismatched - mine or (mismatched and not self.is_fresh):
            names = ", ".join(sorted(mismatched))
            raise UserError(f"model {path!r}: weights of another shape than its config says: {names}")
        if self.is_fresh:
            kept = {name for name in mine if "pooler" in name and name not in missing}
            draw_anew(model, mine - kept, self.seed)
            loaded["missing_keys"] = missing - mine


def classes_of(config: Any) -> tuple[str, ...]:
    """Names of the classes of a head, in order."""
    return tuple(str(config.id2label[index]) for index in sorted(config.id2label))


def are_unnamed(classes: Sequence[str]) -> bool:
    """Whether these are the names that transformers gives to classes that have none."""
    return all(name == f"LABEL_{index}" for index, name in enumerate(classes))


def name_classes(config: Any, classes: Sequence[str]) -> None:
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}


def draw_anew(model: Any, names: set[str], seed: int) -> None:
    """Put in place of the tensors `names` of `model` those of a model that was drawn from `seed`."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        drawn = type(model)(model.config).state_dict()
        own = model.state_dict()
        for name in names:
            own[name].copy_(drawn[name])


def _is_of_head(name: str, base: str) -> bool:
    return not name.startswith(f"{base}.") or "pooler" in name


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
