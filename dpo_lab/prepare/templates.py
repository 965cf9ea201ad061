"""``prepare=[templates]``: the same prompt put into other words around it."""

import random
from collections.abc import Sequence
from pathlib import Path

from dpo_lab.data.errors import DataError
from dpo_lab.data.preparation import OfTraining, Work
from dpo_lab.prepare.copies import add_copies
from dpo_lab.ranges import NonNegativeInt
from dpo_lab.types import Example

PLACE = "{prompt}"


def templates(*, templates: list[str] | str, num_copies: NonNegativeInt = 1, seed: NonNegativeInt = 0) -> OfTraining:
    """Put prompts into templates such as ``Answer in one sentence: {prompt}``, one drawn for each copy.

    Args:
        templates: a list, or a file (.txt) with a template a line, in which ``\\n`` is a line break. Each holds
            ``{prompt}`` once.
        num_copies: rows made of each row, beside it, each with a template of its own; 0: the rows themselves are put
            into one.
        seed: draws the templates; the run's seed does not.

    Raises:
        DataError: no such file; a template without ``{prompt}``; fewer templates than copies.
    """
    known = list(dict.fromkeys(_read(templates) if isinstance(templates, str) else templates))
    for template in known:
        if template.count(PLACE) != 1:
            raise DataError(f"prepare.templates.templates: {template!r} must hold {PLACE} once")
    if len(known) < max(1, num_copies):
        raise DataError(
            f"prepare.templates.num_copies: {num_copies} copies of a row need as many templates, and there are "
            f"{len(known)}. Give more templates, or make fewer copies."
        )

    def variants(text: str, generator: random.Random) -> list[str]:
        return [template.replace(PLACE, text) for template in generator.sample(known, len(known))]

    def apply(rows: Sequence[Example], work: Work) -> list[Example]:
        return add_copies(rows, work, variants, num_copies=num_copies, seed=seed)

    return OfTraining(apply)


def _read(name: str) -> list[str]:
    file = Path(name).expanduser()
    if not file.is_file():
        raise DataError(
            f"prepare.templates.templates: there is no file {name}. Give a list, or a file with one a line."
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"prepare.templates.templates: {name} is not UTF-8. Save it as UTF-8.") from error
    return [line.removesuffix("\r").replace("\\n", "\n") for line in lines if line.strip()]
