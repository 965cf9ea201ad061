"""A sweep around Hydra's multirun: its folder, what is told while it runs, and how it ends."""

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from types import FrameType

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from dpo_lab.run.identity import COSMETIC_KEYS
from dpo_lab.run.redaction import redact_override
from dpo_lab.sweep.process import announce_sweep
from dpo_lab.sweep.record import SweepFolder, SweepRecord

ID_LENGTH = 10
OWN_FOLDER = "hydra.sweep.dir="


def run_sweep(argv: list[str], overrides: list[str], config: DictConfig, run_hydra: Callable[[list[str]], int]) -> int:
    """Run all jobs; the same command finds the same folder, and goes on where that one ended.

    Args:
        argv: the command line of ``dpo-lab train``, with its flags.
        overrides: those of it that are overrides.
        config: that of any job.
        run_hydra: composes and launches, and gives Hydra's exit code.

    Returns:
        0 where every job's run is finished, whenever that was; else 1, or the code of the signal that ended it.
    """
    from rich.console import Console

    from dpo_lab.sweep.board import Board, summary, table

    folder, num_jobs = _folder(overrides, config), _num_jobs(overrides, config)
    folder.write(
        SweepRecord(
            id=folder.path.name,
            working_dir=str(Path.cwd()),
            overrides=[redact_override(text) for text in overrides],
            num_jobs=num_jobs,
        )
    )
    many = "jobs as a search asks for them" if num_jobs is None else f"{num_jobs} jobs"
    print(f"sweep {folder.path.name}: {many}, in {folder.path}", file=sys.stderr)
    own = [] if any(text.startswith(OWN_FOLDER) for text in overrides) else [own_folder(folder.path)]
    announce_sweep()
    code = 130
    try:
        with _stopping_on_sigterm(), Board(folder, num_jobs).telling():
            code = run_hydra([*argv, *own])
    finally:
        jobs = folder.jobs()
        Console(stderr=True).print(table(jobs, ""))
        print(summary(folder), file=sys.stderr)
        if any(job.status != "finished" for job in jobs) or code:
            print(f"the same command goes on, or: dpo-lab sweep resume {folder.path}", file=sys.stderr)
    print(folder.path)
    if code:
        return code
    return 0 if jobs and all(job.status == "finished" for job in jobs) else 1


def _folder(overrides: list[str], config: DictConfig) -> SweepFolder:
    """Named by a hash of what is asked for, less what never enters a run's id."""
    own = next((text.removeprefix(OWN_FOLDER) for text in overrides if text.startswith(OWN_FOLDER)), None)
    if own is not None:
        return SweepFolder(Path(own.strip("'\"")).expanduser().absolute())
    cosmetic = (*COSMETIC_KEYS, "hydra.launcher", "hydra/launcher")
    asked = [text for text in overrides if not text.lstrip("+~").startswith(cosmetic)]
    named = json.dumps([str(OmegaConf.select(config, "name")), *asked])
    id = hashlib.sha256(named.encode()).hexdigest()[:ID_LENGTH]
    return SweepFolder(Path(config.runs_dir).expanduser().absolute() / ".sweeps" / id)


def _num_jobs(overrides: list[str], config: DictConfig) -> int | None:
    """Cells of the grid; None where a sweeper or parameters of another kind decide."""
    sweeper = str(OmegaConf.select(config, "hydra.sweeper._target_", default=""))
    if not sweeper.endswith("BasicSweeper") or OmegaConf.select(config, "hydra.sweeper.params"):
        return None
    parsed = OverridesParser.create().parse_overrides([text for text in overrides if "glob(" not in text])
    if len(parsed) < len(overrides):
        return None
    return prod(len(list(override.sweep_string_iterator())) for override in parsed if override.is_sweep_override())


def own_folder(path: Path) -> str:
    """The override that has Hydra keep a sweep in `path`."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"{OWN_FOLDER}'{escaped}'"


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does: its jobs save, and its folder says so."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
