"""What is going on in a sweep, told while it runs: a table on a terminal, a line a job elsewhere."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dpo_lab.errors import UserError
from dpo_lab.run.read import read_info, read_last_row
from dpo_lab.sweep.record import JobRecord, SweepFolder, count

EVERY_SECONDS = 1.0
TAIL_ROWS = 30
"""Jobs shown on a terminal at a time: those that run, then the latest."""


class Standing(NamedTuple):
    """How far a job's run is; nan and 0 where its folder does not say."""

    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    accuracy: float | None = None


def standing(job: JobRecord) -> Standing:
    """Read from the run folder of `job`."""
    if job.run is None:
        return Standing()
    path = Path(job.run)
    try:
        row, num_steps = read_last_row(path), read_info(path).get("num_steps", 0)
    except (UserError, OSError):  # not yet there
        return Standing()
    return Standing(int(row.get("step", 0)), num_steps, row.get("train/loss"), row.get("train/rewards/accuracies"))


def console() -> Console:
    """Where a sweep tells of itself; lines are as long as they need to be where no one looks at them."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 160)


def table(jobs: Sequence[JobRecord], title: str) -> Table:
    """One line a job, with what of its overrides not all jobs have."""
    found = Table(title=title, title_justify="left")
    for column in ("job", "overrides", "status", "step", "loss", "accuracy", "time", "left"):
        is_text = column in ("overrides", "status")
        found.add_column(column, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    told = differing(jobs)
    for job in jobs:
        at = standing(job)
        share = at.step / at.num_steps if at.num_steps else 0.0
        left = job.elapsed() * (1 / share - 1) if job.status == "running" and share else None
        found.add_row(
            str(job.number),
            " ".join(told[job.number]),
            _words(job),
            f"{at.step}/{at.num_steps}" if at.num_steps else "",
            "" if at.loss is None else f"{at.loss:.4f}",
            "" if at.accuracy is None else f"{at.accuracy:.3f}",
            _clock(job.elapsed()),
            "" if left is None else _clock(left),
        )
    return found


def differing(jobs: Sequence[JobRecord]) -> dict[int, list[str]]:
    """Of each job, by its number, the overrides that not all of them have; all of them where there is one job."""
    common = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs)) if len(jobs) > 1 else set()
    return {job.number: [text for text in job.overrides if text not in common] for job in jobs}


def _words(job: JobRecord) -> str:
    if job.was_finished:
        return f"{job.status} before"
    return f"failed ({job.exit_code})" if job.status == "failed" else job.status


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@final
class Board:
    """Tells of the jobs of one sweep, from what their folders say."""

    def __init__(self, folder: SweepFolder, num_jobs: int | None) -> None:
        self._folder = folder
        self._num_jobs = num_jobs
        self._told: set[int] = set()
        self._console = console()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell in the background during the block; each end of a job also once it is over."""
        ended = threading.Event()
        self._told = {job.number for job in self._folder.jobs() if job.status != "running"}
        teller = threading.Thread(target=self._tell, args=(ended,), daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()
            self._tell_ends()

    def say(self, line: str) -> None:
        """Tell of something that concerns no job alone."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _tell(self, ended: threading.Event) -> None:
        if not sys.stderr.isatty():
            while not ended.wait(EVERY_SECONDS):
                self._tell_ends()
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not ended.wait(EVERY_SECONDS):
                self._tell_ends()
                live.update(self._shown(), refresh=True)

    def _shown(self) -> Table:
        jobs = self._folder.jobs()
        running = [job for job in jobs if job.status == "running"]
        others = [job for job in jobs if job.status != "running"]
        return table([*others[-(TAIL_ROWS - len(running)) :], *running], self._title(jobs))

    def _title(self, jobs: list[JobRecord]) -> str:
        total = "" if self._num_jobs is None else f" of {self._num_jobs}"
        failed = count(jobs, "failed")
        return f"{count(jobs, 'finished')}{total} jobs finished" + (f", {failed} failed" if failed else "")

    def _tell_ends(self) -> None:
        jobs = self._folder.jobs()
        told = differing(jobs)
        for job in jobs:
            if job.status == "running":
                self._told.discard(job.number)
            elif job.number not in self._told:
                self._told.add(job.number)
                self.say(_line(job, told[job.number], self._folder))


def _line(job: JobRecord, told: Sequence[str], folder: SweepFolder) -> str:
    line = f"job {job.number} {_words(job)} after {_clock(job.elapsed())}: {' '.join(told)}"
    if job.status == "failed":
        line += f"\n  {job.problem}\n  all that it said: {folder.job(job.number).log}"
    return line


def summary(folder: SweepFolder) -> str:
    """The last line of a sweep."""
    jobs = folder.jobs()
    counts = [(count(jobs, status), status) for status in ("finished", "pruned", "failed", "interrupted", "skipped")]
    told = ", ".join(f"{number} {status}" for number, status in counts if number) or "no job began"
    before = sum(job.was_finished for job in jobs)
    return f"sweep {folder.path.name}: {told}" + (f" ({before} of them before)" if before else "")
