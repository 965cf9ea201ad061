"""Taking a folder for one process, so that no two write into it and none is overwritten."""

import fcntl
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from dpo_lab.errors import UserError
from dpo_lab.run.files import write_json
from dpo_lab.run.read import read_info

LOCK = ".lock"


class AlreadyFinished(Exception):  # noqa: N818 - good news
    """This very run has been done before: a piece of news with a `path`, not an error (exit code 0)."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"already finished: {path} (fresh=true makes another attempt beside it)")
        self.path = path


class FolderClaimed(UserError):  # noqa: N818 - says what is the case
    """Another process is at work on this very run, in the folder `path`."""

    exit_code = 5

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"another process is at work on this run, in {path}: wait for it, or ask for another attempt "
            "beside it with fresh=true"
        )
        self.path = path


class Claim(NamedTuple):
    """A folder that is ours as long as `lock` stays open; `earlier` are attempts before it that did not finish."""

    path: Path
    lock: IO[bytes]
    info: dict[str, Any]
    earlier: tuple[Path, ...]


def claim(runs_dir: Path | str, name: str, id: str, fresh: bool, info: dict[str, Any]) -> Claim:
    """Take ``runs_dir/name/id``, or the next ``id-k`` where attempts exist, and write `info` into its run.json.

    Raises:
        AlreadyFinished, FolderClaimed, UserError: see `RunFolder.claim`.
    """
    if not name or name.startswith(".") or Path(name).name != name:
        raise UserError(f"name={name!r} names no folder: use letters, digits, '-', '_' and '.', no '/'")
    parent = Path(runs_dir).absolute() / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"runs_dir: cannot make {parent}: {error.strerror}") from error
    while True:
        earlier = attempts(parent, id)
        if not fresh:
            _refuse_done_or_held(earlier.values())
        attempt = max(earlier, default=0) + 1
        path = parent / (id if attempt == 1 else f"{id}-{attempt}")
        full_info = {**info, "id": id, "name": name, "attempt": attempt}
        if (lock := _publish(path, full_info)) is not None:
            unfinished = (old for old in earlier.values() if read_info(old).get("status") != "finished")
            return Claim(path, lock, full_info, tuple(unfinished))


def attempts(parent: Path, id: str) -> dict[int, Path]:
    """The folders of all attempts at a run, by their number, in order."""
    pattern = re.compile(rf"{re.escape(id)}(?:-(\d+))?")
    found = ((pattern.fullmatch(path.name), path) for path in parent.iterdir() if path.is_dir())
    return dict(sorted((int(match[1] or 1), path) for match, path in found if match))


def is_held(path: Path) -> bool:
    """Whether a living process holds this run folder."""
    try:
        lock = (path / LOCK).open("rb")
    except FileNotFoundError:
        return False
    with lock:
        try:
            # Shared: two processes that only look must not take each other for the holder.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def release(lock: IO[bytes]) -> None:
    """Let a folder go, also where a forked child still has the lock's file open."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    lock.close()


def _refuse_done_or_held(paths: Iterable[Path]) -> None:
    for path in paths:
        if read_info(path).get("status") == "finished":
            raise AlreadyFinished(path)
        if is_held(path):
            raise FolderClaimed(path)


def _publish(path: Path, info: dict[str, Any]) -> IO[bytes] | None:
    """Make the folder and return its lock; None where another process was first."""
    # The folder appears under its name with its lock already held: no one can find it unlocked in between.
    draft = path.with_name(f".claim-{uuid.uuid4().hex}")
    draft.mkdir()
    lock = (draft / LOCK).open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_json(draft / "run.json", info)
        draft.rename(path)
    except OSError:
        lock.close()
        shutil.rmtree(draft, ignore_errors=True)
        if path.exists():
            return None
        raise
    return lock
