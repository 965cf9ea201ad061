"""A confusion matrix on disk: what one model took for what, and where that is known from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.data.errors import DataError
from dpo_lab.whole_files import write_whole

FORMAT = "dpo_lab confusion 1"


@dataclass(frozen=True)
class Confusion:
    """``probability[gold][class]``: what a model gave each class, on average over the texts of each gold class.

    Each line adds up to 1. `counts` are its decisions, by the same indices; `provenance` says which model, which data.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    probability: tuple[tuple[float, ...], ...]
    provenance: Mapping[str, Any]

    def wrong(self, gold: str) -> dict[str, float]:
        """The probability of each class but `gold`."""
        line = self.probability[self.classes.index(gold)]
        return {name: value for name, value in zip(self.classes, line, strict=True) if name != gold}

    def said(self) -> str:
        """In a line: whose mistakes these are, and how many texts were looked at."""
        origin = ", ".join(f"{name} {value}" for name, value in self.provenance.items())
        return f"a confusion matrix of {sum(map(sum, self.counts))} texts; {origin}"

    def write(self, file: Path) -> None:
        content = {
            "format": FORMAT,
            "provenance": dict(self.provenance),
            "classes": list(self.classes),
            "counts": [list(line) for line in self.counts],
            "probability": [list(line) for line in self.probability],
        }
        write_whole(file, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_confusion(path: str, classes: Sequence[str]) -> Confusion:
    """What `Confusion.write` wrote, of exactly these `classes`, in whatever order.

    Raises:
        DataError: no such file; another content; classes that are not those of the data; lines that do not add up to 1.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"data.confusion: there is no file {path}. Write one with `dpo-lab mine RUN --out {path}`.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"data.confusion: {path} is no JSON: {error}. Write it anew with `dpo-lab mine`.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"data.confusion: {path} is no confusion matrix that `dpo-lab mine` wrote ({FORMAT!r}).")
    named = tuple(content["classes"])
    if set(named) != set(classes):
        raise DataError(
            f"data.confusion: {path} is of the classes {', '.join(named)}, and the data has {', '.join(classes)}. "
            "Write one with a run on these classes."
        )
    lines = content["probability"]
    sound = len(lines) == len(named) and all(len(line) == len(named) and abs(sum(line) - 1) < 1e-3 for line in lines)
    if not sound or any(value < 0 for line in lines for value in line):
        raise DataError(
            f"data.confusion: {path} does not hold {len(named)} lines of {len(named)} probabilities that add up to 1."
        )
    counts, probability = (tuple(tuple(line) for line in content[name]) for name in ("counts", "probability"))
    return Confusion(named, counts, probability, content["provenance"])
