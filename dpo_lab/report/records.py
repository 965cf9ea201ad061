"""Run folders read for tables: many, fast, and each as far as it can be read. Nothing here stops at a damaged file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, final

import numpy as np
import yaml

from dpo_lab.errors import UserError
from dpo_lab.report.statistics import Array
from dpo_lab.run.claim import is_held
from dpo_lab.run.digests import check_digest
from dpo_lab.run.evaluations import FOLDER, read_figures
from dpo_lab.run.read import read_info, read_rows

SWEEPS = ".sweeps"
READ = ("config.yaml", "overrides.yaml", "metrics.jsonl", "timing.jsonl")
# libyaml reads a config in 3 ms, OmegaConf in 40; what `RunFolder` writes is plain YAML.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Curve(NamedTuple):
    """Optimizer steps and finite values of one curve, where it was logged."""

    steps: Array
    values: Array


@final
@dataclass(frozen=True)
class RunRecord:
    """What could be read of a run folder.

    `config` is flat: ``loss.beta`` and so on, the value of ``X._target_`` under ``X`` as the last word of it. `faults`
    says what could not be read, file by file; a record with faults takes no part in statistics.
    """

    path: Path
    config: dict[str, Any]
    info: dict[str, Any]
    curves: dict[str, Curve]
    timing: dict[str, float]
    overrides: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def status(self) -> str:
        """What run.json says, but "killed" where it says "running" and no process holds the folder."""
        if self.faults:
            return "unreadable"
        status = str(self.info.get("status", "unknown"))
        return "killed" if status == "running" and not is_held(self.path) else status

    def last(self, name: str) -> float:
        """The last finite value of a curve; nan where there is none."""
        curve = self.curves.get(name)
        return float(curve.values[-1]) if curve is not None and len(curve.values) else float("nan")

    @property
    def last_step(self) -> int | None:
        steps = [curve.steps[-1] for curve in self.curves.values() if len(curve.steps)]
        return int(max(steps)) if steps else None


def read_record(path: Path) -> RunRecord:
    """Read a run folder as far as it can be read; never raises for what is inside it."""
    faults: list[str] = []
    info = _try(faults, "run.json", lambda: read_info(path)) or {}
    if not info and not faults:
        faults.append("run.json: missing")
    elif not isinstance(info, Mapping):
        faults.append("run.json: not an object")
        info = {}
    config = _try(faults, "config.yaml", lambda: _read_yaml(path / "config.yaml"))
    if config is None and not faults:
        config = {}  # a run that failed before it was composed, or has only begun
    if not isinstance(config, Mapping):
        faults += [] if config is None else ["config.yaml: not a mapping"]
        config = {}
    for name in READ:
        _try(faults, name, lambda name=name: check_digest(path / name, info))
    overrides = _try(faults, "overrides.yaml", lambda: _read_yaml(path / "overrides.yaml"))
    metrics = _try(faults, "metrics.jsonl", lambda: _curves(read_rows(path / "metrics.jsonl"))) or {}
    figures = _try(faults, FOLDER, lambda: read_figures(path)) or {}
    metrics |= {name: Curve(np.array([one.step]), np.array([one.value])) for name, one in figures.items()}
    timing = _try(faults, "timing.jsonl", lambda: read_rows(path / "timing.jsonl")) or []
    return RunRecord(
        path=path,
        config=flatten(config),
        info=dict(info),
        curves=metrics,
        timing=dict(timing[-1]) if timing else {},
        overrides=tuple(map(str, overrides)) if isinstance(overrides, list) else (),
        faults=tuple(faults),
    )


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The run folders that `folders` are or hold, in the order of their names, each once.

    A folder of `.sweeps` stands for the runs of that sweep.

    Raises:
        UserError: one of `folders` does not exist, or holds no run.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; a run is runs/NAME/ID, and all runs of a name are runs/NAME")
        runs = _runs_of_sweep(folder) if folder.absolute().parent.name == SWEEPS else _runs_under(folder)
        if not runs:
            raise UserError(f"{folder} holds no run: no run.json in it or in a folder below it")
        found.update(dict.fromkeys(runs))
    return list(found)


def _runs_under(folder: Path) -> list[Path]:
    if (folder / "run.json").exists():
        return [folder.absolute()]
    patterns = ("*/run.json", "*/*/run.json", "*/*/*/run.json")
    files = {file for pattern in patterns for file in folder.absolute().glob(pattern)}
    parts = ((file.parent, file.parent.relative_to(folder.absolute()).parts) for file in files)
    return sorted(path for path, names in parts if not any(name.startswith(".") for name in names))


def _runs_of_sweep(folder: Path) -> list[Path]:
    """Runs that say that they are of this sweep, and those that its jobs found finished already."""
    runs_dir = folder.absolute().parents[1]
    runs = _runs_under(runs_dir)
    own = {run for run in runs if _try([], "run.json", lambda run=run: read_info(run).get("sweep")) == folder.name}
    for file in folder.glob("jobs/*/run.txt"):
        named = Path(file.read_text().partition("\n")[0])
        moved = runs_dir / named.parent.name / named.name  # the folder of all runs may have been moved, or copied
        own |= {path for path in (moved if moved.exists() else named,) if (path / "run.json").exists()}
    return sorted(own)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names of all leaves; lists are leaves, as JSON.

    >>> flatten({"loss": {"_target_": "dpo_lab.loss.ipo.ipo", "beta": 0.1}, "seed": 1})
    {'loss': 'ipo', 'loss.beta': 0.1, 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if key == "_target_" and prefix:
            flat[prefix.removesuffix(".")] = str(item).rpartition(".")[2]
        elif isinstance(item, Mapping):
            flat |= flatten(item, f"{name}.")
        else:
            flat[name] = json.dumps(item, default=str) if isinstance(item, list) else item
    return flat


def _read_yaml(file: Path) -> Any:
    if not file.exists():
        return None
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise UserError(f"{file} is damaged: {' '.join(str(error).split())}") from error


def _curves(rows: list[dict[str, float]]) -> dict[str, Curve]:
    gathered: dict[str, tuple[list[float], list[float]]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("step"), int | float):
            raise UserError(f"row {number} has no step")
        for name, value in row.items():
            if not isinstance(value, int | float):
                raise UserError(f"row {number}: {name} is no number")
            steps, values = gathered.setdefault(name, ([], []))
            steps.append(row["step"])
            values.append(value)
    curves = {}
    for name, (steps, values) in gathered.items():
        array = np.asarray(values, dtype=np.float64)
        is_finite = np.isfinite(array)
        curves[name] = Curve(np.asarray(steps, dtype=np.float64)[is_finite], array[is_finite])
    return curves | _margins(curves)


def _margins(curves: dict[str, Curve]) -> dict[str, Curve]:
    """``*/log_ratios/margins``: chosen less rejected in nats, which no beta scales."""
    found = {}
    for side in ("train", "val", "test"):
        chosen, rejected = (curves.get(f"{side}/log_ratios/{name}") for name in ("chosen", "rejected"))
        if chosen is not None and rejected is not None and np.array_equal(chosen.steps, rejected.steps):
            found[f"{side}/log_ratios/margins"] = Curve(chosen.steps, chosen.values - rejected.values)
    return found


def _try(faults: list[str], file: str, read: Any) -> Any:
    """What `read` gives; None and a line in `faults` where the file cannot be read."""
    try:
        return cast(Any, read())
    except (UserError, OSError, UnicodeDecodeError, AttributeError) as error:
        # A row that is no object has no items: it comes as AttributeError from whoever reads rows.
        faults.append(f"{file}: {error}")
        return None
