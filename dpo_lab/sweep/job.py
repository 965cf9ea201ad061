"""One job of a sweep as it is asked for, and what is known of it before it begins: whether it has to."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dpo_lab.run.identity import COSMETIC_KEYS, canonical_json, without
from dpo_lab.run.read import read_info
from dpo_lab.run.redaction import redact, redact_override
from dpo_lab.sweep.record import DONE, ENDED, JobFolder, JobRecord


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done: job `number` of the sweep `sweep_id`, whose config is resolved, in its start `start`."""

    number: int
    config: Mapping[str, Any]
    overrides: Sequence[str]
    sweep_id: str
    start: int = 0
    working_dir: str | None = None

    def with_threads(self, num_threads: int) -> dict[str, Any]:
        """`config` with a number of threads that is said: it moves the last bits of a sum."""
        trainer = self.config.get("trainer", {})
        threads = trainer.get("num_threads")
        return {**self.config, "trainer": {**trainer, "num_threads": num_threads if threads is None else threads}}

    def record(self) -> JobRecord:
        """What can be told of it before anything is known."""
        overrides = [redact_override(override) for override in self.overrides]
        return JobRecord(number=self.number, overrides=overrides, start=self.start)


def find_ended(job: Job, folder: JobFolder, num_threads: int) -> JobRecord | None:
    """What is known of a job that this start of the sweep has not to begin; None of one that it has.

    Either it has ended in this very start, or it was done in an earlier one, and its config and input files are as they
    were then. ``fresh=true`` asks for one new attempt: one that was made by it is done as well.
    """
    before = folder.read()
    if before is None:
        return None
    if before.status in ENDED and before.start == job.start > 0:
        return before
    config = job.with_threads(num_threads)
    if not (_is_done(before) and _is_same(folder, before, config)):
        return None
    return folder.write(replace(before, was_finished=True, seconds=0.0, exit_code=0, start=job.start))


def skip_job(job: Job, folder: JobFolder) -> JobRecord:
    """Say that the job is not begun."""
    folder.path.mkdir(parents=True, exist_ok=True)
    before = folder.read() or job.record()
    skipped = replace(job.record(), status="skipped", run=before.run, inputs=before.inputs)
    return folder.write(skipped)


def begun_attempt(folder: JobFolder, config: Mapping[str, Any]) -> str | None:
    """The run folder of the attempt that ``fresh=true`` asks for, where an earlier start of the sweep has made it."""
    before = folder.read()
    if not config.get("fresh") or before is None or before.run is None or not read_info(Path(before.run)):
        return None
    return before.run if not _is_done(before) and _is_same(folder, before, config) else None


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


def _is_done(before: JobRecord) -> bool:
    """Whether nothing is left to do of a job, and its run is still there."""
    if before.status not in DONE or before.run is None:
        return False
    return before.status == "pruned" or read_info(Path(before.run)).get("status") == "finished"


def _is_same(folder: JobFolder, before: JobRecord, config: Mapping[str, Any]) -> bool:
    """Whether nothing that the run of a job was made from was touched, and it is the attempt that `config` asks for."""
    if before.inputs != stamp_inputs(config) or not folder.config.exists():
        return False
    saved: Any = OmegaConf.to_container(OmegaConf.load(folder.config))
    is_attempt = bool(saved.get("fresh")) or not config.get("fresh")
    return is_attempt and _content(saved) == _content(redact(dict(config)))


def _content(config: Any) -> str:
    """Equal for configs of one run."""
    return canonical_json(without(config, set(COSMETIC_KEYS)))
