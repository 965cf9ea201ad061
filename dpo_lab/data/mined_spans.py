"""A file of questions with a model's own best wrong spans, and where those are known from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.data.errors import DataError
from dpo_lab.whole_files import write_whole

FORMAT = "dpo_lab mined spans 1"


def write_mined(file: Path, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> None:
    """Write `rows`, named as `dpo_lab.data.read_questions.COLUMNS` are; `provenance` says which model, which data."""
    content = {"format": FORMAT, "provenance": dict(provenance), "rows": list(rows)}
    write_whole(file, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_mined(content: Mapping[str, Any], name: str) -> tuple[str, list[dict[str, Any]]]:
    """Where the spans come from, in a line, and the rows.

    Raises:
        DataError: the file is not as `write_mined` wrote it.
    """
    rows, provenance = content.get("rows"), content.get("provenance")
    if not isinstance(rows, list) or not isinstance(provenance, dict) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{name} is no whole file of mined spans. Write it anew with `dpo-lab mine`.")
    return ", ".join(f"{key} {value}" for key, value in provenance.items()), rows
