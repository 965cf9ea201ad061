"""One job of a sweep as a process of its own: started from a resolved config, waited for, told of."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from dpo_lab.processors import pin
from dpo_lab.run.files import write_text
from dpo_lab.run.redaction import redact
from dpo_lab.sweep.job import Job, begun_attempt, stamp_inputs
from dpo_lab.sweep.record import JobFolder, JobRecord, Status
from dpo_lab.sweep.slots import Slot

MODULE = "dpo_lab.commands.job"
STARTER = "DPO_LAB_STARTER"
"""Environment variable with the process that started a job: a job ends when that one is gone."""

SWEEP = "DPO_LAB_SWEEP"
"""Environment variable with the machine and the process of the command that runs a sweep."""

STOPPED_CODES = frozenset({130, 143, 138})
KILLED_CODE = 128 + signal.SIGKILL
CLAIMED_CODE = 5
CLAIMED_SECONDS = 120.0
"""A job that was left behind by a killed sweep ends within a step; so long is it waited for."""

SAVE_SECONDS = 120.0
"""A job that is told to stop finishes its step and saves; so long is it waited for."""

POLL_SECONDS = 0.5

KILLED_SECONDS = 0.5
"""Whoever kills a process with all that it has started, as joblib does where another worker died, begins with the last
of them. A worker whose job was killed waits so long before it says so: it may be next, and then the job is no failure.
"""


def run_job(job: Job, folder: JobFolder, slot: Slot) -> JobRecord:
    """Train in a process of its own and wait for it; what became of it is the last thing that `folder` says.

    Raises:
        KeyboardInterrupt, SystemExit: this process is told to stop; the job is told so too and may save.
    """
    config = job.with_threads(slot.num_threads)
    record = replace(
        job.record(),
        units=list(slot.units),
        num_threads=config["trainer"]["num_threads"],
        inputs=stamp_inputs(config),
    )
    folder.path.mkdir(parents=True, exist_ok=True)
    with _held(folder.path / ".starter"):
        begun = begun_attempt(folder, config)
        folder.run.unlink(missing_ok=True)
        folder.prune.unlink(missing_ok=True)
        write_text(folder.config, OmegaConf.to_yaml(OmegaConf.create(redact(config))))
        write_text(folder.overrides, OmegaConf.to_yaml(OmegaConf.create(record.overrides)))
        started = time.time()
        record = folder.write(replace(record, status="running", started=started, run=begun))
        if begun is not None:
            config = {**config, "fresh": False, "resume": {**config.get("resume", {}), "run": begun}}
        with _waiting():
            code = _train(job, config, folder, slot, record)
        known = folder.read() or record
        ended = replace(known, exit_code=code, status=_status(code, folder), seconds=time.time() - started)
        if ended.status == "failed":
            ended = replace(ended, problem=_problem(code, folder.log))
        return folder.write(ended)


_at_work = 0


def runs_a_job() -> bool:
    """Whether this very process is waiting for a job, as under a launcher without processes of its own."""
    return _at_work > 0


@contextmanager
def _waiting() -> Iterator[None]:
    global _at_work
    _at_work += 1
    try:
        yield
    finally:
        _at_work -= 1


def _train(job: Job, config: Mapping[str, Any], folder: JobFolder, slot: Slot, record: JobRecord) -> int:
    """The exit code of the job's process; begun anew as long as another process is at work on the same run."""
    given_up = time.monotonic() + CLAIMED_SECONDS
    while True:
        with folder.log.open("ab") as log:
            process = _start(job, config, folder, slot, log)
            folder.write(replace(record, is_pinned=pin(process.pid, slot.processors)))
            code = _wait(process, folder)
        if code != CLAIMED_CODE or time.monotonic() > given_up:
            return code
        time.sleep(POLL_SECONDS)


def _start(job: Job, config: Mapping[str, Any], folder: JobFolder, slot: Slot, log: IO[bytes]) -> subprocess.Popen[str]:
    given = {
        "folder": str(folder.path),
        "config": config,
        "overrides": list(job.overrides),
        "sweep": job.sweep_id,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd=job.working_dir,  # a launcher's worker may stand where an earlier sweep was begun
        env={**os.environ, **slot.environment(), STARTER: str(os.getpid())},
        start_new_session=True,  # Ctrl-C reaches whoever started it, who tells it once
        text=True,
    )
    assert process.stdin is not None
    with process.stdin as pipe:  # not on disk: a value may be a secret
        json.dump(given, pipe)
    return process


def _wait(process: subprocess.Popen[str], folder: JobFolder) -> int:
    try:
        while True:
            try:
                code = process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if is_orphaned() or folder.stop.exists():
                    raise SystemExit(128 + signal.SIGTERM) from None
                if folder.prune.exists():
                    _stop(process)
                continue
            if code == -signal.SIGKILL:
                time.sleep(KILLED_SECONDS)
            return 128 - code if code < 0 else code
    except BaseException:  # told to stop, whatever by: the job is told so, and may save before this process ends
        _stop(process)
        raise


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(SAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def announce_sweep() -> None:
    """Say to the processes that a launcher starts which one they work for."""
    os.environ[SWEEP] = f"{socket.gethostname()} {os.getpid()}"


def is_worker() -> bool:
    """Whether another process on this machine announced itself as the command that this one works for."""
    host, _, process = os.environ.get(SWEEP, "").partition(" ")
    return bool(process) and not (host == socket.gethostname() and int(process) == os.getpid())


def is_orphaned() -> bool:
    """Whether the command that this process works for is gone: a launcher's workers may live on for minutes.

    False where nothing is known of it: it runs on another machine, or nobody announced it.
    """
    host, _, process = os.environ.get(SWEEP, "").partition(" ")
    if host != socket.gethostname() or not process:
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's: the number was taken again
        return True
    return False


def _status(code: int, folder: JobFolder) -> Status:
    if code == 0:
        return "finished"
    was_stopped = code in STOPPED_CODES
    if folder.prune.exists() and (was_stopped or code == KILLED_CODE):
        return "pruned"
    return "interrupted" if was_stopped else "failed"


def _problem(code: int, log: Path) -> str:
    """Why a job failed, in a line."""
    if code == KILLED_CODE:
        return "killed by SIGKILL, which this sweep did not send; out of memory?"
    if code - 128 in {*signal.Signals}:
        return f"killed by {signal.Signals(code - 128).name}"
    return _last_words(log)


def _last_words(log: Path) -> str:
    """The last line that says something: of a traceback the error itself."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
