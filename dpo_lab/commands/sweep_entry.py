"""A sweep, whoever made its jobs: its folder, what is told while it runs, and how it ends."""

import hashlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from dpo_lab.run.identity import COSMETIC_KEYS
from dpo_lab.run.redaction import redact_override
from dpo_lab.sweep.process import POLL_SECONDS, SAVE_SECONDS, announce_sweep, runs_a_job
from dpo_lab.sweep.record import DONE, ENDED, JobRecord, SweepFolder, SweepRecord

ID_LENGTH = 10
CLUSTERS = ("submitit_slurm", "ray", "ray_aws")
"""Launchers whose jobs run on other machines than the one where they are asked for."""

OWN_FOLDER = "hydra.sweep.dir="

MOST_LOSSES = 3
"""So often is a worker of the launcher lost before a sweep is given up in which no job ends any more."""


def run_multirun(
    argv: list[str], overrides: list[str], config: DictConfig, run_hydra: Callable[[list[str]], int]
) -> int:
    """Run all jobs of ``dpo-lab train -m``; the same command finds the same folder, and goes on where that one ended.

    Args:
        argv: the command line, with its flags.
        overrides: those of it that are overrides.
        config: that of any job.
        run_hydra: composes and launches, and gives Hydra's exit code.

    Returns:
        As `run_sweep`.
    """
    path = folder_of(overrides, str(config.runs_dir), str(OmegaConf.select(config, "name")), overrides)
    record = SweepRecord(
        id=path.name,
        working_dir=str(Path.cwd()),
        flags=[word for word in argv if word not in overrides],
        overrides=[redact_override(text) for text in overrides],
        num_jobs=_num_jobs(overrides, config),
    )
    rest = [word for word in argv if not word.startswith(OWN_FOLDER)]
    return run_sweep(SweepFolder(path), record, lambda: run_hydra([*rest, own_folder(path)]))


def run_sweep(folder: SweepFolder, record: SweepRecord, launch: Callable[[], int]) -> int:
    """Keep `record`, have `launch` run the jobs, and tell of them meanwhile and in the end.

    Returns:
        0 where every job is finished (or was pruned by a search), whenever that was; else 1, or what `launch` gives, or
        the code of the signal that ended it.

    Raises:
        SweepClaimed: another command runs this sweep.
    """
    with folder.claimed():
        return _run_claimed(folder, record, launch)


def _run_claimed(folder: SweepFolder, record: SweepRecord, launch: Callable[[], int]) -> int:
    from dpo_lab.sweep.board import Board, console, summary, table

    folder.begin(record)
    many = "jobs as a search asks for them" if record.num_jobs is None else f"{record.num_jobs} jobs"
    print(f"sweep {record.id}: {many}, in {folder.path}", file=sys.stderr)
    announce_sweep()
    folder.stop.unlink(missing_ok=True)
    code = 130
    try:
        board = Board(folder, record.num_jobs)
        with _stopping(folder), board.telling():
            code = _launch_all(folder, launch, board.say)
    finally:
        _wait_for_jobs(folder)
        jobs = folder.jobs()
        console().print(table(jobs, ""))
        print(summary(folder), file=sys.stderr)
        if any(job.status not in DONE for job in jobs) or code:
            print(f"the same command goes on, or: dpo-lab sweep resume {folder.path}", file=sys.stderr)
    print(folder.path)
    if code:
        return code
    return 0 if jobs and all(job.status in DONE for job in jobs) else 1


def _launch_all(folder: SweepFolder, launch: Callable[[], int], say: Callable[[str], object]) -> int:
    """`launch`, once more whenever it breaks down because a worker of the launcher was killed.

    What has ended by then is passed over (`find_ended`). Where nothing ends between `MOST_LOSSES` such deaths, it is
    given up.
    """
    losses, num_ended = 0, len(_ended(folder))
    while True:
        try:
            return launch()
        except BrokenExecutor as error:  # joblib ends the other workers as well
            before, num_ended = num_ended, len(_ended(folder))
            losses = 1 if num_ended > before else losses + 1
            if losses == MOST_LOSSES:
                say(f"given up, since {losses} times no job ended before a worker of the launcher did: {error}")
                return 1
        say("a worker of the launcher was killed, out of memory? What has not ended goes on from its newest checkpoint")


def _ended(folder: SweepFolder) -> list[JobRecord]:
    return [job for job in folder.jobs(start=folder.read().start) if job.status in ENDED]


def _wait_for_jobs(folder: SweepFolder) -> None:
    """Until those that were told to stop have saved and ended: launchers leave them at once. Ctrl-C ends the wait."""
    given_up = time.monotonic() + SAVE_SECONDS
    with suppress(KeyboardInterrupt):
        while time.monotonic() < given_up and any(job.status == "running" for job in folder.jobs()):
            time.sleep(POLL_SECONDS)


def folder_of(overrides: Sequence[str], runs_dir: str, name: str, asked: Sequence[Any]) -> Path:
    """``RUNS_DIR/.sweeps/ID``, with a hash of `name` and of what is asked for, less what never enters a run's id;
    where `overrides` name a folder, that one.
    """
    own = own_path(overrides)
    if own is not None:
        return own
    text = json.dumps([name, *_decisive(asked)])
    id = hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
    return Path(runs_dir).expanduser().absolute() / ".sweeps" / id


def own_path(overrides: Sequence[str]) -> Path | None:
    """The folder that `overrides` ask for, if any."""
    own = next((text.removeprefix(OWN_FOLDER) for text in overrides if text.startswith(OWN_FOLDER)), None)
    return None if own is None else Path(own.strip("'\"")).expanduser().absolute()


def is_elsewhere(overrides: Sequence[str]) -> bool:
    """Whether jobs will run on other machines: a login node has no GPU, and need not have one."""
    return any(text in [f"hydra/launcher={name}" for name in CLUSTERS] for text in overrides)


def own_folder(path: Path) -> str:
    """The override that has Hydra keep a sweep in `path`."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"{OWN_FOLDER}'{escaped}'"


def _decisive(asked: Sequence[Any]) -> list[Any]:
    keys = (*COSMETIC_KEYS, "hydra.launcher", "hydra/launcher", "hydra.sweep.dir")
    cosmetic = tuple(f"{key}{mark}" for key in keys for mark in ("=", ".", "@"))
    kept = (_decisive(each) if isinstance(each, list | tuple) else each for each in asked)
    return [each for each in kept if not (isinstance(each, str) and each.lstrip("+~").startswith(cosmetic))]


def _num_jobs(overrides: list[str], config: DictConfig) -> int | None:
    """Cells of the grid; None where a sweeper or parameters of another kind decide."""
    sweeper = str(OmegaConf.select(config, "hydra.sweeper._target_", default=""))
    if not sweeper.endswith("BasicSweeper") or OmegaConf.select(config, "hydra.sweeper.params"):
        return None
    parsed = OverridesParser.create().parse_overrides([text for text in overrides if "glob(" not in text])
    if len(parsed) < len(overrides):
        return None
    return prod(len(list(override.sweep_string_iterator())) for override in parsed if override.is_sweep_override())


@contextmanager
def _stopping(folder: SweepFolder) -> Iterator[None]:
    """Ctrl-C and SIGTERM have every job save and end, and only then end the launcher, which would kill them at once.

    A second signal ends everything as it is.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for each, handler in before.items():
            signal.signal(each, handler)
        if not runs_a_job():
            folder.stop.touch()
            _wait_for_jobs(folder)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
