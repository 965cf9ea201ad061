"""What is known of the jobs of a sweep: a folder, in it one folder a job, readable while they run."""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

from dpo_lab.errors import UserError
from dpo_lab.run.files import write_json

Status = Literal["waiting", "running", "finished", "failed", "interrupted", "skipped", "pruned"]

DONE: frozenset[Status] = frozenset({"finished", "pruned"})
"""Of jobs that have nothing left to do."""

ENDED: frozenset[Status] = frozenset({*DONE, "failed", "skipped"})
"""Of jobs that the start of the sweep which they ended in does not begin again; the next one does, where not `DONE`."""

LOCK = ".lock"
STOP = ".stop"


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job. `run` is its run folder, once it has one; `problem` the last line that a failed job said.

    `units`: the processors, or the GPUs, that it held; `is_pinned`: its threads could run on these processors alone.
    `was_finished`: its run had been done before, and nothing was trained. `inputs` stands for the files that the config
    points at, as they were when the job ended. `start` is the start of the sweep (`SweepRecord.start`) that this was
    written in; 0 where none is known.
    """

    number: int
    overrides: list[str]
    status: Status = "waiting"
    run: str | None = None
    exit_code: int | None = None
    units: list[str] | None = None
    is_pinned: bool | None = None
    num_threads: int | None = None
    started: float | None = None
    seconds: float | None = None
    was_finished: bool = False
    problem: str | None = None
    inputs: str | None = None
    start: int = 0

    def elapsed(self) -> float:
        """Seconds that it ran, so far."""
        if self.seconds is not None:
            return self.seconds
        return 0.0 if self.started is None else time.time() - self.started


@final
@dataclass(frozen=True)
class JobFolder:
    """``SWEEP/jobs/NUMBER``: config.yaml (resolved) and overrides.yaml to start from, job.json, log.txt, run.txt."""

    path: Path

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def overrides(self) -> Path:
        return self.path / "overrides.yaml"

    @property
    def run(self) -> Path:
        """A line with the run folder, written by the job itself, and a second one where that was finished before."""
        return self.path / "run.txt"

    @property
    def prune(self) -> Path:
        """Written by a search, with the reason: the job is to end, and is not worth going on with."""
        return self.path / "prune.txt"

    @property
    def stop(self) -> Path:
        """Written by the command of the sweep when it is told to stop: every job is to save and end."""
        return self.path.parents[1] / STOP

    @property
    def lock(self) -> Path:
        """Held by the job's process as long as it lives."""
        return self.path / LOCK

    def write(self, record: JobRecord) -> JobRecord:
        write_json(self.path / "job.json", asdict(record))
        return record

    def read(self) -> JobRecord | None:
        """What is known now; None where the job has not begun. One whose process is gone is interrupted."""
        try:
            found = JobRecord(**json.loads((self.path / "job.json").read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.path / 'job.json'} cannot be read: {error}; remove the file") from error
        lines = self.run.read_text().splitlines() if self.run.exists() else []
        if lines:
            found = replace(found, run=lines[0], was_finished=found.was_finished or len(lines) > 1)
        if found.status == "running" and not self.is_alive():
            found = replace(found, status="interrupted")
        return found

    def is_alive(self) -> bool:
        """Whether the process of the job, or the one that starts it, lives."""
        for name in (self.lock, self.path / ".starter"):
            try:
                with name.open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except FileNotFoundError:
                continue
            except BlockingIOError:
                return True
        return False


class SweepClaimed(UserError):  # noqa: N818 - says what is the case
    """Another command is at work on this very sweep."""

    exit_code = 5


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """sweep.json: what made the sweep, where it was asked for, and how many jobs it is known to have.

    `start` counts how often the sweep was begun. `flags` and `overrides` are the command line. Of a plan, by its name,
    `cells` are the overrides of each job, and of a search `search` is what the plan said: the file may change, the
    sweep does not.
    """

    id: str
    working_dir: str
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    num_jobs: int | None = None
    plan: str | None = None
    cells: list[list[str]] | None = None
    search: dict[str, Any] | None = None
    start: int = 0


@final
@dataclass(frozen=True)
class SweepFolder:
    """``runs_dir/.sweeps/ID``."""

    path: Path

    @property
    def stop(self) -> Path:
        """See `JobFolder.stop`."""
        return self.path / STOP

    def job(self, number: int) -> JobFolder:
        return JobFolder(self.path / "jobs" / str(number))

    def jobs(self, *, start: int | None = None) -> list[JobRecord]:
        """All jobs that have begun, in order; of one start of the sweep, those that have begun in it."""
        numbers = sorted(int(path.name) for path in (self.path / "jobs").glob("*") if path.name.isdigit())
        records = [record for number in numbers if (record := self.job(number).read()) is not None]
        return [record for record in records if start is None or record.start == start]

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Nobody else runs this sweep during the block.

        Raises:
            SweepClaimed: somebody does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SweepClaimed(f"another process is at work on this sweep, in {self.path}: wait for it") from None
            yield

    def begin(self, record: SweepRecord) -> None:
        """Write `record` as the next start of the sweep.

        Raises:
            UserError: what an earlier start has written cannot be read.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = self.read().start if self._file.exists() else 0
        write_json(self._file, asdict(replace(record, start=earlier + 1)))

    def read(self) -> SweepRecord:
        """
        Raises:
            UserError: there is no sweep in this folder.
        """
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
            return SweepRecord(**found)
        except FileNotFoundError:
            raise UserError(f"{self.path} is no sweep: it has no sweep.json; sweeps are in RUNS_DIR/.sweeps") from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{self._file} cannot be read: {error}") from error

    @property
    def _file(self) -> Path:
        return self.path / "sweep.json"


def count(jobs: Sequence[JobRecord], status: Status) -> int:
    return sum(job.status == status for job in jobs)
