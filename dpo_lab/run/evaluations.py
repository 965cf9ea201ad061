"""RUN/evaluation/: what `dpo-lab evaluate` measured of a finished run, beside what the run recorded. No torch."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def read_figures(run: Path) -> dict[str, float]:
    """Every figure of the evaluations of `run`: ``evaluation/FILE/FIGURE``, by name.

    Raises:
        UserError: one of the files is damaged.
    """
    found: dict[str, float] = {}
    for file in sorted((run / FOLDER).glob("*.json")):
        try:
            figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
            values = {name: figure["value"] for name, figure in figures.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{FOLDER}/{file.name} is damaged: {error!r}") from error
        found |= {
            f"{FOLDER}/{file.stem}/{name}": float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
    return found
