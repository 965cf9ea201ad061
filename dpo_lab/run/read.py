"""A run read back from its folder, and from nothing else. No torch."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpo_lab.errors import UserError

LAST_ROW_BYTES = 2**16


@final
@dataclass(frozen=True)
class Run:
    """What a run folder says.

    `config` is resolved; `info` is run.json (status, seeds, hashes, versions, ...); `metrics` and `timing` have
    one row a logged step, where a number that was not finite reads as nan.
    """

    path: Path
    config: dict[str, Any]
    info: dict[str, Any]
    metrics: list[dict[str, float]]
    timing: list[dict[str, float]]

    @property
    def status(self) -> str:
        return self.info["status"]

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one curve, where it was logged."""
        rows = [row for row in self.metrics if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]


def read_run(path: Path | str) -> Run:
    """Read a run folder, finished or not.

    Raises:
        UserError: `path` is no run folder, or one of its files cannot be read; the message names it.
    """
    path = Path(path)
    info = read_info(path)
    if not info:
        raise UserError(f"{path} is not the folder of a run: it has no run.json")
    return Run(
        path=path,
        config=_read_config(path / "config.yaml"),
        info=info,
        metrics=read_rows(path / "metrics.jsonl"),
        timing=read_rows(path / "timing.jsonl"),
    )


def _read_config(file: Path) -> dict[str, Any]:
    """As it stands there: nothing is interpolated, so a folder from elsewhere cannot ask for a variable or a file."""
    if not file.exists():
        return {}
    try:
        config = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is damaged: it holds a {type(config).__name__} where keys and values belong")
    return cast(dict[str, Any], config)


def read_info(path: Path) -> dict[str, Any]:
    """What run.json in a folder says; empty where there is none.

    Raises:
        UserError: the file is not a JSON object.
    """
    file = path / "run.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not isinstance(info, dict):
        raise UserError(f"{file} is damaged: it holds a {type(info).__name__} where keys and values belong")
    return info


def read_last_row(path: Path) -> dict[str, float]:
    """The newest whole row of a run's metrics.jsonl, read from its end; empty where there is none."""
    file = path / "metrics.jsonl"
    with file.open("rb") as rows:
        rows.seek(max(0, file.stat().st_size - LAST_ROW_BYTES))
        *lines, _cut_short = rows.read().split(b"\n")
    return json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else {}


def read_rows(file: Path) -> list[dict[str, float]]:
    """Rows of a JSON-lines file; none where there is no file. A last line cut short by a crash does not count.

    Raises:
        UserError: a line before the last is damaged, naming it.
    """
    if not file.exists():
        return []
    *lines, _cut_short = file.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} line {number} is damaged: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number} is damaged: it holds a {type(row).__name__} where a row belongs")
        rows.append({name: math.nan if value is None else value for name, value in row.items()})
    return rows
