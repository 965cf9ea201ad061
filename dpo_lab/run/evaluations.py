"""RUN/evaluation/: what `dpo-lab evaluate` measured of a finished run, beside what the run recorded. No torch."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dpo_lab.errors import UserError
from dpo_lab.run.files import finite_or_null, write_json, write_text
from dpo_lab.run.redaction import redact

FOLDER = "evaluation"


def write_evaluation(file: Path, record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `rows` beside `file` (.jsonl), then `record` to it (.json), each whole or not at all, without secrets."""
    plain = finite_or_null(redact([dict(row) for row in rows]))
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in plain]
    write_text(file.with_suffix(".jsonl"), "".join(f"{line}\n" for line in lines))
    write_json(file, redact(dict(record)))


class ReadFigure(NamedTuple):
    """A figure of the weights after optimizer step `step`; 0 where nothing says which."""

    step: float
    value: float


def read_figures(run: Path) -> dict[str, ReadFigure]:
    """Every finite figure of the evaluations of `run`: ``evaluation/FILE/FIGURE``, by name.

    Raises:
        UserError: one of the files is damaged.
    """
    found: dict[str, ReadFigure] = {}
    for file in sorted((run / FOLDER).glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            step = float(record.get("step") or 0)
            values = {name: figure["value"] for name, figure in record["figures"].items()}
            numbers = {name: float(value) for name, value in values.items() if value is not None}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(f"{FOLDER}/{file.name} is damaged: {error!r}") from error
        found |= {
            f"{FOLDER}/{file.stem}/{name}": ReadFigure(step, value)
            for name, value in numbers.items()
            if math.isfinite(value)
        }
    return found
