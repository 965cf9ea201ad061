"""One job of a sweep as a process of its own: started from a resolved config, waited for, told of."""

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from dpo_lab.run.files import write_text
from dpo_lab.run.identity import COSMETIC_KEYS, canonical_json, without
from dpo_lab.run.read import read_info
from dpo_lab.run.redaction import redact, redact_override
from dpo_lab.sweep.record import DONE, JobFolder, JobRecord, Status
from dpo_lab.sweep.slots import Slot

MODULE = "dpo_lab.commands.job"
STARTER = "DPO_LAB_STARTER"
"""Environment variable with the process that started a job: a job ends when that one is gone."""

SWEEP = "DPO_LAB_SWEEP"
"""Environment variable with the machine and the process of the command that runs a sweep."""

STOPPED_CODES = frozenset({130, 143, 138})
CLAIMED_CODE = 5
CLAIMED_SECONDS = 120.0
"""A job that was left behind by a killed sweep ends within a step; so long is it waited for."""

SAVE_SECONDS = 120.0
"""A job that is told to stop finishes its step and saves; so long is it waited for."""

POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done: job `number` of the sweep `sweep_id`, whose config is resolved."""

    number: int
    config: Mapping[str, Any]
    overrides: Sequence[str]
    sweep_id: str
    working_dir: str | None = None


def run_job(job: Job, folder: JobFolder, slot: Slot) -> JobRecord:
    """Train in a process of its own and wait for it; what became of it is the last thing that `folder` says.

    A job whose run is finished, and whose config and input files are as they were then, is not started again.

    Raises:
        KeyboardInterrupt, SystemExit: this process is told to stop; the job is told so too and may save.
    """
    config = _with_threads(job.config, slot)
    record = JobRecord(
        number=job.number,
        overrides=[redact_override(override) for override in job.overrides],
        units=list(slot.units),
        num_threads=config["trainer"]["num_threads"],
        inputs=stamp_inputs(config),
    )
    told = redact(dict(config))
    done = _done(folder, record, told)
    if done is not None and not config.get("fresh"):
        return folder.write(
            replace(record, status=done.status, run=done.run, was_finished=True, seconds=0.0, exit_code=0)
        )
    folder.path.mkdir(parents=True, exist_ok=True)
    with _held(folder.path / ".starter"):
        folder.run.unlink(missing_ok=True)
        folder.prune.unlink(missing_ok=True)
        write_text(folder.config, OmegaConf.to_yaml(OmegaConf.create(told)))
        write_text(folder.overrides, OmegaConf.to_yaml(OmegaConf.create(record.overrides)))
        started = time.time()
        record = folder.write(replace(record, status="running", started=started))
        with _waiting():
            code = _train(job, config, folder, slot)
        known = folder.read() or record
        ended = replace(known, exit_code=code, status=_status(code, folder), seconds=time.time() - started)
        if ended.status == "failed":
            ended = replace(ended, problem=_last_words(folder.log))
        return folder.write(ended)


def _with_threads(config: Mapping[str, Any], slot: Slot) -> dict[str, Any]:
    """`config` with a number of threads that is said: it moves the last bits of a sum."""
    trainer = config.get("trainer", {})
    threads = trainer.get("num_threads")
    return {**config, "trainer": {**trainer, "num_threads": slot.num_threads if threads is None else threads}}


def stamp_inputs(config: Mapping[str, Any]) -> str:
    """A hash of name, size and time of every file that a value of `config` names: equal where nothing was touched."""
    digest = hashlib.sha256()
    for key, path in sorted(_paths(config, "")):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                found = file.stat()
                digest.update(f"{key}|{file}|{found.st_size}|{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _paths(node: Any, key: str) -> Iterator[tuple[str, Path]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name not in ("runs_dir", "cache_dir"):
                yield from _paths(value, f"{key}.{name}")
    elif isinstance(node, str) and node and key.endswith(("path", "chat_template")):
        path = Path(node).expanduser()
        if path.exists():
            yield key, path


def _done(folder: JobFolder, record: JobRecord, config: Mapping[str, Any]) -> JobRecord | None:
    """What is known of this very job, where it is done and nothing that its run was made from was touched."""
    before = folder.read()
    if before is None or before.status not in DONE or before.run is None or before.inputs != record.inputs:
        return None
    if not folder.config.exists() or _content(OmegaConf.to_container(OmegaConf.load(folder.config))) != _content(
        config
    ):
        return None
    is_whole = before.status == "pruned" or read_info(Path(before.run)).get("status") == "finished"
    return before if is_whole else None


def _content(config: Any) -> str:
    """Equal for configs of one run."""
    return canonical_json(without(config, set(COSMETIC_KEYS)))


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


def _train(job: Job, config: Mapping[str, Any], folder: JobFolder, slot: Slot) -> int:
    """The exit code of the job's process; begun anew as long as another process is at work on the same run."""
    given_up = time.monotonic() + CLAIMED_SECONDS
    while True:
        with folder.log.open("ab") as log:
            code = _wait(_start(job, config, folder, slot, log), folder)
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
    if code not in STOPPED_CODES and code != 128 + signal.SIGKILL:
        return "failed"
    return "pruned" if folder.prune.exists() else "interrupted"


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
