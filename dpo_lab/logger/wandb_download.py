"""Runs of Weights & Biases brought back as run folders, for all that reads run folders."""

import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from dpo_lab.errors import UserError
from dpo_lab.logger.wandb import headlines
from dpo_lab.logger.wandb_account import has_key
from dpo_lab.run.mirror import FILES, MIRRORED
from dpo_lab.run.read import read_info

PREFIX = "wandb:"
NAMES = ("run.json", *FILES)
ENOUGH = ("run.json", "config.yaml", "metrics.jsonl")
TIMEOUT_SECONDS = 30
_ADDRESS = re.compile(
    r"wandb:(?P<entity>[\w.-]+)/(?P<project>[\w.-]+)(/(?:(?:runs|sweeps|groups)/)?(?P<name>[\w.-]+))?"
)
_OVER = ("finished", "failed", "crashed", "killed")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Say = Callable[[str], None]


class Address(NamedTuple):
    """A project of W&B, or what in it bears `name`: a sweep or group, or one run."""

    entity: str
    project: str
    name: str | None

    @property
    def path(self) -> str:
        return f"{self.entity}/{self.project}"


def parse_address(word: str) -> Address:
    """
    >>> parse_address("wandb:us/dpo-lab/ab12")
    Address(entity='us', project='dpo-lab', name='ab12')

    Raises:
        UserError: `word` is no such address.
    """
    found = _ADDRESS.fullmatch(word)
    if found is None or ".." in word:
        raise UserError(
            f"{word}: write wandb:ENTITY/PROJECT for all runs of a project, wandb:ENTITY/PROJECT/NAME for a sweep, a "
            "group or one run"
        )
    return Address(found["entity"], found["project"], found["name"])


def download(address: Address, cache_dir: Path, say: Say) -> list[Path]:
    """Folders of the runs at `address`, under ``cache_dir/wandb/ENTITY/PROJECT``, named by their W&B ids.

    A run that sent its record (`logger.record`) comes back as it was written; of another, config, history and state are
    asked for, so that it has neither predictions nor hashes. A run that is over is fetched once.

    Raises:
        UserError: no key, no answer, no such project, or no run of dpo_lab at `address`.
    """
    import wandb as service

    if not has_key():
        raise UserError(f"{PREFIX}{address.path} needs a W&B key: run `wandb login`, or set WANDB_API_KEY")
    folder = cache_dir.expanduser() / "wandb" / address.entity / address.project
    try:
        runs = list(open_api().runs(address.path, filters=_filters(address)))
        paths = [path for run in runs if (path := _bring(run, folder, say)) is not None]
    # Error: no answer, a refused key; ValueError: no such project; the rest: the network, through whatever library.
    except (service.Error, ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{PREFIX}{address.path}: W&B does not answer as asked ({reason}); check the network, the key and the name"
        ) from error
    if not paths:
        what = f"no run of dpo_lab among {len(runs)}" if runs else "no run"
        which = "" if address.name is None else f" in the sweep or group, or with the id, {address.name}"
        raise UserError(f"{PREFIX}{address.path}: {what}{which}")
    return paths


def open_api() -> Any:
    """W&B's own client for reading."""
    import wandb as service

    return service.Api(timeout=TIMEOUT_SECONDS)


def _filters(address: Address) -> dict[str, Any]:
    """`name` is W&B's word for the id of a run."""
    if address.name is None:
        return {}
    return {"$or": [{key: address.name} for key in ("group", "sweep", "name", "displayName")]}


def _bring(run: Any, folder: Path, say: Say) -> Path | None:
    """The folder of one run; None where it is no run of dpo_lab."""
    if not re.fullmatch(r"[\w-]+", run.id):
        say(f"left out: a run whose id is no plain name: {run.id!r}")
        return None
    target, partial = folder / run.id, folder / f".{run.id}.partial"
    if read_info(target).get("status") in _OVER and run.state in _OVER:
        return target
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        if not (_copy_record(run, partial) or _ask_for_record(run, partial)):
            say(f"left out: {run.id} ({run.name}) is no run of dpo_lab")
            return None
        if run.state not in _OVER:
            _set_status(partial, f"{run.state} on W&B")
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _copy_record(run: Any, folder: Path) -> bool:
    """Whether the run had sent what is enough, which is then in `folder`."""
    for file in run.files(names=[f"{MIRRORED}/{name}" for name in NAMES]):
        # Only what was asked for: a name from elsewhere could be a path.
        name = file.name.removeprefix(f"{MIRRORED}/")
        if name in NAMES:
            file.download(root=str(folder), replace=True).close()
            (folder / MIRRORED / name).replace(folder / name)
    return all((folder / name).exists() for name in ENOUGH)


def _ask_for_record(run: Any, folder: Path) -> bool:
    """Config, history and state, as a run folder has them; False where the config is none of dpo_lab's."""
    config = {key: value for key, value in run.config.items() if not key.startswith("_")}
    loss = config.get("loss")
    if not isinstance(loss, Mapping) or "_target_" not in loss:
        return False
    flat = set(headlines(config)) - {"seed"}
    composed = {key: value for key, value in config.items() if key not in flat}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(composed)), encoding="utf-8")
    rows = _rows(run.scan_history())
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    info = {"id": run.id, "name": run.name, "status": run.state, "started": run.created_at, "sweep": run.group}
    (folder / "run.json").write_text(json.dumps(info | {"wandb": {"id": run.id}}), encoding="utf-8")
    return True


def _rows(history: Iterable[Mapping[str, Any]]) -> list[dict[str, float | None]]:
    """Rows of metrics.jsonl: one a step, in order; what was sent again after a resume takes its place. null is nan."""
    by_step: dict[float, dict[str, float | None]] = {}
    for row in history:
        values = {key: _number(value) for key, value in row.items() if not key.startswith("_")}
        known = {key: value for key, value in values.items() if value is not None}
        if "step" in known:
            finite = {key: value if math.isfinite(value) else None for key, value in known.items()}
            by_step.setdefault(known["step"], {}).update(finite)
    return [by_step[step] for step in sorted(by_step)]


def _number(value: Any) -> float | None:
    """None for what is no number: a table, a text, nothing. W&B spells what is not finite."""
    if isinstance(value, str):
        return _SPECIAL.get(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _set_status(folder: Path, status: str) -> None:
    info = read_info(folder) | {"status": status}
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
