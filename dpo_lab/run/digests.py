"""Hashes of the files that figures are made of, written when a run ends, so that what is damaged later is noticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError

GROWING = ("metrics.jsonl", "timing.jsonl", "predictions.parquet", "training_pairs.parquet", "samples.jsonl")
"""Files that a run adds to, and that one which goes on takes over."""

DIGESTED = ("config.yaml", "overrides.yaml", *GROWING)
FIELD = "digests"
"""Of run.json: name of a file -> SHA-256 of what it held when the process that wrote it ended."""


def digests_of(run: Path) -> dict[str, str]:
    """SHA-256 of each of `DIGESTED` that is there."""
    return {name: _digest(run / name) for name in DIGESTED if (run / name).is_file()}


def check_digest(file: Path, info: Mapping[str, Any]) -> None:
    """Whether a file of a run is what the run left; a run of before there were hashes says nothing.

    Args:
        info: what run.json says.

    Raises:
        UserError: it is another, or gone.
    """
    known = info.get(FIELD)
    wanted = known.get(file.name) if isinstance(known, Mapping) else None
    if wanted is None:
        return
    if not file.is_file():
        raise UserError(f"{file} is gone, and the run had left it")
    if _digest(file) != wanted:
        raise UserError(
            f"{file} is not what the run left: its SHA-256 is not the one in run.json. It was changed or damaged since"
        )


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
