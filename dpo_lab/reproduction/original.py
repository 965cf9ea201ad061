"""The run that is made again, as its folder, or W&B's copy of it, records it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from dpo_lab.errors import UserError
from dpo_lab.run.fingerprints import read_fingerprints
from dpo_lab.run.mirror import MIRRORED
from dpo_lab.run.read import read_run

MAPPINGS = ("hashes", "packages", "code", "platform", "seeds", "streams", "reference_cache")
"""Fields of run.json that are objects, where they are there."""


@final
@dataclass(frozen=True)
class Original:
    """What is known of a run. `config` is as saved; `metrics` are its rows, whose last step is `last_step`.

    `fingerprints` have the parts ``config``, ``rows``, ``weights`` and ``code``, empty in runs older than they are.
    """

    path: Path
    config: dict[str, Any]
    info: dict[str, Any]
    metrics: list[dict[str, float]]
    fingerprints: dict[str, dict[str, str]]

    @property
    def id(self) -> str:
        return str(self.info.get("id", self.path.name))

    @property
    def is_finished(self) -> bool:
        return self.info.get("status") == "finished"

    @property
    def last_step(self) -> int:
        return int(self.metrics[-1]["step"])


def read_original(path: Path) -> Original:
    """Read a run folder, a copy of one, or the folder of its W&B run.

    Raises:
        UserError: it is none of these; a file of it is damaged; or it began from the checkpoint of another run, so that
            its config alone does not lead to its numbers; or it has no row to compare with.
    """
    folder = find_record(path)
    run = read_run(folder)
    if not run.config:
        raise UserError(f"{folder} has no config.yaml: the run failed before it was composed, and cannot be made again")
    for name in MAPPINGS:
        if not isinstance(run.info.get(name) or {}, Mapping):
            raise UserError(f"{folder / 'run.json'} is damaged: {name} is no object")
    origin = run.info.get("origin")
    if isinstance(origin, Mapping):
        raise UserError(
            f"{folder} began after step {origin.get('step')} of {origin.get('id')}, which had another config: make "
            "that one again, then go on from it with resume.run=FOLDER and the config of this one"
        )
    if not run.metrics:
        raise UserError(f"{folder} has no row in metrics.jsonl: there is nothing to compare with")
    return Original(folder, run.config, run.info, run.metrics, read_fingerprints(folder))


def find_record(path: Path) -> Path:
    """The folder with run.json that `path` is, or that lies where W&B keeps a run's files.

    Raises:
        UserError: there is none.
    """
    for folder in (path, path / MIRRORED, path / "files" / MIRRORED):
        if (folder / "run.json").is_file():
            return folder
    raise UserError(
        f"{path} is no run: it has no run.json, nor has {MIRRORED}/ or files/{MIRRORED}/ in it, where W&B's copies lie"
    )
