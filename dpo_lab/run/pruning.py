"""Deleting runs, or what is large in them: never outside of a run's folder, never one that is at work."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from dpo_lab.errors import UserError
from dpo_lab.run.claim import DRAFT, LOCK, is_held
from dpo_lab.run.files import write_json
from dpo_lab.run.read import read_info

WHOLE = "all"


class Part(NamedTuple):
    """What can go of a run: ``checkpoints``, ``model`` or ``all``."""

    run: Path
    name: str
    num_bytes: int

    @property
    def path(self) -> Path:
        return self.run if self.name == WHOLE else self.run / self.name


def find_parts(runs: Sequence[Path], names: Sequence[str], root: Path) -> tuple[list[Part], dict[Path, str]]:
    """What is there of `names` in `runs`, which lie below `root`; and the runs that are left alone, with reasons."""
    parts: list[Part] = []
    refused: dict[Path, str] = {}
    for run in runs:
        reason = _why_not(run, root)
        if reason:
            refused[run] = reason
            continue
        wanted = [WHOLE] if WHOLE in names else names
        for name in wanted:
            path = run if name == WHOLE else run / name
            if path.is_symlink():
                refused[run] = f"{name} is a link, and what it leads to is not the run's"
            elif path.is_dir():
                parts.append(Part(run, name, size_of(path)))
    return parts, refused


def size_of(folder: Path) -> int:
    """Bytes of all files inside; a link counts as itself."""
    return sum(
        (Path(place) / name).lstat().st_size for place, _, names in os.walk(folder, followlinks=False) for name in names
    )


def drop(part: Part) -> str | None:
    """Delete `part`; the reason where it is left alone after all.

    A whole run loses its name first, so that no half of it is ever taken for one.

    Raises:
        UserError: the disk refuses.
    """
    try:
        lock = (part.run / LOCK).open("ab")
    except FileNotFoundError:
        return "it is gone"
    except OSError as error:
        raise UserError(f"{part.run}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "it is at work"
        try:
            _delete(part)
        except OSError as error:
            raise UserError(f"cannot delete {part.path}: {error.strerror or error}") from error
    return None


def _delete(part: Part) -> None:
    if part.name == WHOLE:
        draft = part.run.with_name(f"{DRAFT}{uuid.uuid4().hex}")  # what is left of it goes with the next claim there
        part.run.rename(draft)
        shutil.rmtree(draft)
        return
    info = read_info(part.run)
    earlier = info.get("pruned")
    now = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "what": part.name}
    gone = [*(earlier if isinstance(earlier, list) else []), now]
    write_json(part.run / "run.json", {**info, "pruned": gone})
    for manifest in part.path.glob("*.json"):  # a checkpoint without one does not count
        manifest.unlink()
    shutil.rmtree(part.path)


def _why_not(run: Path, root: Path) -> str | None:
    """Why nothing of a run may be deleted; None where it may."""
    if not run.is_relative_to(root.absolute()):
        return f"it lies outside of {root}"
    if run.resolve() != root.resolve() / run.relative_to(root.absolute()):
        return "it is reached by a link, so it lies elsewhere"
    if (run / LOCK).is_symlink():
        return f"its {LOCK} is a link"
    return "it is at work" if is_held(run) else None
