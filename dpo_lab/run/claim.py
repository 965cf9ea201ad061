"""Taking a folder for one process, so that no two write into it and none is overwritten."""

import fcntl
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from dpo_lab.errors import UserError
from dpo_lab.run.files import write_json
from dpo_lab.run.links import refuse_links
from dpo_lab.run.read import read_info

LOCK = ".lock"
DRAFT = ".claim-"
DRAFT_SECONDS = 60.0
"""A draft lives for milliseconds; one that is older than this was left by a process that was killed."""


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
    """A folder that is ours as long as `lock` stays open.

    `is_taken_over`: an attempt before ours began it and did not finish; `info` is what that one's run.json says.
    """

    path: Path
    lock: IO[bytes]
    info: dict[str, Any]
    is_taken_over: bool = False


def claim(runs_dir: Path | str, name: str, id: str, fresh: bool, info: dict[str, Any]) -> Claim:
    """Take ``runs_dir/name/id`` and write `info` into its run.json.

    Where attempts at this id exist and none is finished, the last of them is taken over as it is. With `fresh` the
    next ``id-k`` is made, whatever is there.

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
    _sweep_drafts(parent)
    while True:
        earlier = attempts(parent, id)
        if not fresh and earlier:
            *others, last = earlier.values()
            _refuse_done([*others, last])
            for other in others:
                if is_held(other):
                    raise FolderClaimed(other)
            return take_over(last)
        attempt = max(earlier, default=0) + 1
        path = parent / (id if attempt == 1 else f"{id}-{attempt}")
        full_info = {**info, "id": id, "name": name, "attempt": attempt}
        if (lock := _publish(path, full_info)) is not None:
            return Claim(path, lock, full_info)


def take_over(path: Path) -> Claim:
    """Take the folder of an attempt that did not finish. Nothing is written.

    Raises:
        AlreadyFinished: it has finished after all.
        FolderClaimed: it is at work.
        UserError: something in it is a link.
    """
    refuse_links(path)
    lock = (path / LOCK).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _refuse_done([path])
    except BlockingIOError:
        lock.close()
        raise FolderClaimed(path) from None
    except BaseException:
        lock.close()
        raise
    return Claim(path, lock, read_info(path), is_taken_over=True)


def find_run(runs_dir: Path | str, run: str) -> Path:
    """The folder of a run by its path or, under any name in `runs_dir`, by its id (``id-2`` for a second attempt).

    Raises:
        UserError: there is none, or more than one.
    """
    if read_info(Path(run).expanduser()):
        return Path(run).expanduser().absolute()
    is_id = Path(run).name == run and not run.startswith(".")
    found = [path.parent for path in Path(runs_dir).absolute().glob(f"*/{run}/run.json")] if is_id else []
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"resume.run={run}: several runs have this id: {', '.join(map(str, found))}; give the folder")
    raise UserError(f"resume.run={run}: neither the folder of a run nor the id of one under {runs_dir}")


def attempts(parent: Path, id: str) -> dict[int, Path]:
    """The folders of all attempts at a run, by their number, in order."""
    pattern = re.compile(rf"{re.escape(id)}(?:-(\d+))?")
    found = ((pattern.fullmatch(path.name), path) for path in parent.iterdir() if path.is_dir())
    return dict(sorted((int(match[1] or 1), path) for match, path in found if match))


def is_held(path: Path) -> bool:
    """Whether a living process holds this run folder."""
    if not (path / LOCK).is_file():
        return False
    lock = (path / LOCK).open("rb")
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


def _refuse_done(paths: Iterable[Path]) -> None:
    for path in paths:
        if read_info(path).get("status") == "finished":
            raise AlreadyFinished(path)


def _sweep_drafts(parent: Path) -> None:
    """Delete folders that a process was killed in the middle of claiming."""
    for draft in parent.glob(f"{DRAFT}*"):
        with suppress(FileNotFoundError):  # it has just got its name, or another process is as tidy
            if draft.is_symlink():
                continue
            if time.time() - draft.stat().st_mtime > DRAFT_SECONDS and not is_held(draft):
                shutil.rmtree(draft)


def _publish(path: Path, info: dict[str, Any]) -> IO[bytes] | None:
    """Make the folder and return its lock; None where another process was first."""
    # The folder appears under its name with its lock already held: no one can find it unlocked in between.
    draft = path.with_name(f"{DRAFT}{uuid.uuid4().hex}")
    draft.mkdir()
    lock = (draft / LOCK).open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_json(draft / "run.json", info)
        draft.rename(path)
    except BaseException as error:
        lock.close()
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError) and path.exists():
            return None
        raise
    return lock
