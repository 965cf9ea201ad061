"""The part of a run folder that is enough to make the run again and to report on it, for whoever mirrors runs."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_lab.run.files import write_json
from dpo_lab.run.fingerprints import FILE

MIRRORED = "dpo_lab"
"""Name of the folder that it is kept in, among the files of another service."""

FILES = ("config.yaml", "overrides.yaml", "metrics.jsonl", "timing.jsonl", "predictions.parquet", FILE)
"""Beside run.json. None holds a word of the data: predictions name a response by a hash."""


def copy_record(run: Path, info: Mapping[str, Any], target: Path) -> None:
    """Copy what there is of `FILES` from the folder `run` to `target`, and write `info` as its run.json.

    Raises:
        OSError: the disk refuses.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (run / name).exists():
            shutil.copyfile(run / name, target / name)
    write_json(target / "run.json", info)
