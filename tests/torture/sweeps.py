"""Kill jobs of a sweep, then the sweep itself, at random moments; the same command again comes to the same bits.

The sweep is the command itself, in a process forked from this one; its jobs are forked too, instead of started anew, so
that each begins with everything imported. All else is what a sweep does: folders, locks, signals, W&B's files. Where it
is joblib's workers that are killed, nothing is forked but the command: workers and jobs are started as ever.
"""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import dpo_lab.commands.train as command
from dpo_lab.commands import cli, job
from dpo_lab.run.read import read_info
from dpo_lab.sweep import process
from dpo_lab.sweep.record import SweepFolder
from tests.torture.processes import SMALL
from tests.torture.torture import TortureError, compare

CELLS = ("loss=sigmoid,ipo,hinge",)
NUM_CELLS = 3
KNOBS = ("trainer.checkpoint_every=1", "logger=wandb", "logger.mode=offline")
SECONDS = 600.0
MOST_SECONDS = 8.0
"""A job that is started as ever has by then imported what it needs, and trains or has ended."""

WORKER = b"LokyProcess"


@dataclass
class SweepHits:
    """What was killed, by what stood in the folder of the sweep then, and how many sweeps that took."""

    places: Counter[str] = field(default_factory=Counter)
    num_sweeps: int = 0
    num_late: int = 0


@dataclass(frozen=True)
class WholeSweep:
    """A sweep left in peace: the run folder of each cell, by the job's number, and how long it took."""

    runs: dict[int, Path]
    seconds: float


def run_whole_sweep(root: Path) -> WholeSweep:
    begun = time.monotonic()
    sweep = Sweep(root / "whole")
    code = sweep.start().wait()
    if code:
        raise TortureError(f"the sweep left in peace ended with {code}\n{sweep.log()}")
    return WholeSweep(sweep.runs(), time.monotonic() - begun)


def kill_sweeps(root: Path, whole: WholeSweep, draw: random.Random, num_kills: int, hits: SweepHits) -> None:
    """Kill `num_kills` times, a job as often as the sweep itself, and compare every sweep at its end."""
    done = 0
    while done < num_kills:
        sweep = Sweep(root / f"sweep-{hits.num_sweeps}")
        for _ in range(draw.randint(1, 3)):
            if done < num_kills:
                done += _hit(sweep, whole, draw, hits)
        code = sweep.start().wait()
        # A job that was killed leaves the sweep with an exit code of its own; the next command goes on.
        if code == 1:
            code = sweep.start().wait()
        _check(sweep, whole, code)
        hits.num_sweeps += 1
        print(f"sweep {hits.num_sweeps}: as the one left in peace; {done} kills so far", flush=True)


def kill_workers(root: Path, whole: WholeSweep, draw: random.Random, num_kills: int, hits: SweepHits) -> None:
    """Kill a worker of joblib's while it waits for its job, `num_kills` times: one command has to come to the end."""
    done = 0
    while done < num_kills:
        sweep = Sweep(root / f"workers-{hits.num_sweeps}", launcher="joblib")
        running = sweep.start()
        for _ in range(min(2, num_kills - done)):  # more in a row without a job's end, and the sweep would give up
            if running.kill_worker(draw.uniform(0, MOST_SECONDS)):
                hits.places["a worker of joblib's, its job at work"] += 1
                done += 1
            else:
                hits.num_late += 1
        _check(sweep, whole, running.wait())
        hits.num_sweeps += 1
        print(f"sweep {hits.num_sweeps}: as the one left in peace; {done} workers killed so far", flush=True)


def _hit(sweep: "Sweep", whole: WholeSweep, draw: random.Random, hits: SweepHits) -> int:
    """Start the sweep, kill a job or not, then the sweep; how many kills that were."""
    running, done = sweep.start(), 0
    time.sleep(draw.uniform(0, whole.seconds * 0.8))
    if draw.random() < 0.5 and (place := running.kill_job()) is not None:
        hits.places[f"a job, {place}"] += 1
        done += 1
        time.sleep(draw.uniform(0, whole.seconds * 0.3))
    if running.is_alive():
        hits.places[f"the sweep, {sweep.place()}"] += 1
        done += 1
        os.kill(running.pid, signal.SIGKILL)
    else:
        hits.num_late += 1
    running.wait()
    return done


def _check(sweep: "Sweep", whole: WholeSweep, code: int) -> None:
    def expect(holds: bool, message: str) -> None:
        if not holds:
            raise TortureError(f"{message}\n{sweep.path}\n{sweep.log()}")

    expect(code == 0, f"the same command again ended with {code}")
    runs = sweep.runs()
    expect(runs.keys() == whole.runs.keys(), f"cells {sorted(runs)} of {sorted(whole.runs)}")
    expect(len(set(runs.values())) == len(runs), "two cells have one run")
    folders = [path.parent for path in sweep.path.glob("runs/*/*/run.json")]
    expect(set(folders) == set(runs.values()), f"{len(folders)} run folders of {len(runs)} cells")
    ids = set()
    for number, run in runs.items():
        different = compare(run, whole.runs[number])
        expect(not different, f"job {number} differs from the one left in peace: {', '.join(different)}")
        said = sweep.folder().job(number).log.read_text().splitlines()
        expect(said.count(str(run)) == 1, f"job {number} was run to its end {said.count(str(run))} times")
        info = read_info(run)
        expect(info["sweep"] == sweep.folder().path.name, f"job {number} does not know its sweep")
        mirrors = [path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")]
        expect(mirrors == [info["wandb"]["id"]], f"job {number} has W&B runs {mirrors}")
        ids.add(info["wandb"]["id"])
    expect(len(ids) == len(runs), f"{len(ids)} W&B ids of {len(runs)} cells")


@dataclass(frozen=True)
class Running:
    """The command of a sweep, under way as the process `pid`."""

    pid: int

    def is_alive(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self) -> int:
        deadline = time.monotonic() + SECONDS
        while self.is_alive():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"the sweep did not end within {SECONDS} s")
            time.sleep(0.02)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill_job(self) -> str | None:
        """Kill the job that the sweep has going, and say how far it was; None where it has none."""
        with suppress(OSError, IndexError):
            os.kill(children(self.pid)[0], signal.SIGKILL)
            return "at work"
        return None

    def kill_worker(self, seconds: float) -> bool:
        """Kill a worker of joblib's once it has had a job for `seconds`; False where the sweep ended before."""
        while self.is_alive():
            for worker in children(self.pid):
                if WORKER in command_of(worker) and (jobs := children(worker)):
                    time.sleep(seconds)
                    if jobs[0] in children(worker):
                        os.kill(worker, signal.SIGKILL)
                        return True
            time.sleep(0.05)
        return False


def children(pid: int) -> list[int]:
    """Processes that any of its threads has started."""
    found: list[int] = []
    for file in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):  # it has ended
            found += [int(child) for child in file.read_text().split()]
    return found


def command_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass(frozen=True)
class Sweep:
    """The command, always the same, with its runs below `path`; `jobs` are its overrides beside those of `SMALL`."""

    path: Path
    jobs: tuple[str, ...] = (*CELLS, *KNOBS)
    launcher: Literal["basic", "joblib"] = "basic"

    def start(self) -> Running:
        self.path.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            _become(self.path / "log.txt", lambda: _sweep(self))
        return Running(pid)

    def folder(self) -> SweepFolder:
        (path,) = (self.path / "runs" / ".sweeps").iterdir()
        return SweepFolder(path)

    def runs(self) -> dict[int, Path]:
        jobs = self.folder().jobs()
        return {each.number: Path(each.run) for each in jobs if each.status == "finished" and each.run is not None}

    def place(self) -> str:
        """How far the sweep has come, as its folder shows it."""
        folders = list((self.path / "runs" / ".sweeps").glob("*")) if self.path.exists() else []
        if not folders:
            return "before its folder was made"
        jobs = SweepFolder(folders[0]).jobs()
        num_finished = sum(each.status == "finished" for each in jobs)
        return f"{num_finished} of {NUM_CELLS} jobs finished"

    def log(self) -> str:
        log = self.path / "log.txt"
        return log.read_text()[-3000:] if log.exists() else ""


def _sweep(sweep: Sweep) -> int:
    command.draw_run = lambda *_: None  # a second of drawing, in which nothing of a run is at stake
    process._start = _fork_job
    process.POLL_SECONDS = 0.05
    process.CLAIMED_SECONDS = SECONDS
    os.chdir(sweep.path)
    return cli.main(["train", "-m", *SMALL, *sweep.jobs, f"hydra/launcher={sweep.launcher}"])


class ForkedJob(subprocess.Popen[str]):
    """What `subprocess.Popen` is to `dpo_lab.sweep.process`, of a process that was forked."""

    _child_created = False  # by itself: there is nothing to tidy up

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (SECONDS if timeout is None else timeout)
        while self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("job", timeout or SECONDS)
            else:
                time.sleep(0.01)
        return self._code

    def terminate(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)


def _fork_job(todo: Any, config: Mapping[str, Any], folder: Any, slot: Any, log: IO[bytes]) -> ForkedJob:
    given = {"folder": str(folder.path), "config": config, "overrides": list(todo.overrides), "sweep": todo.sweep_id}
    starter = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()

    def work() -> int:
        os.setsid()
        os.environ.update({**slot.environment(), process.STARTER: str(starter)})
        sys.stdin = io.StringIO(json.dumps(given))
        return job.main()

    pid = os.fork()
    if not pid:
        _become(folder.log, work)
    return ForkedJob(pid)


def _become(log: Path, work: Any) -> NoReturn:
    """End this process with the exit code of `work`. Nothing may leave this function: behind it is another's code."""
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        code = work()
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
