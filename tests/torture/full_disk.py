"""Small file systems that run full in the middle of a run: the path is named, what was saved stays, and it goes on."""

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpo_lab.run.kept import newest_sound
from tests.torture.processes import start
from tests.torture.torture import Hits, Whole, expect, finish

NUM_BYTES = 8 * 2**20


class MountError(RuntimeError):
    """No file system can be made here; the message says who may."""


@contextmanager
def small_file_system(place: Path, num_bytes: int = NUM_BYTES) -> Iterator[Path]:
    """A file system of its own at `place`, in memory, gone at the end.

    Raises:
        MountError: mounting is not permitted (it takes root; ``unshare -rm COMMAND`` gives that to anyone, on most
            kernels), or not known.
    """
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "dpo_lab-full-disk", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise MountError(f"no mount: {error}") from error
    if done.returncode:
        raise MountError(f"{done.stderr.strip()}: run it as root, or by `unshare -rm`")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill_at_random(root: Path, whole: Whole, draw: random.Random, num: int, hits: Hits) -> None:
    """Let the disk run full `num` times, early and late in a run, after as many bytes as chance will have it.

    Raises:
        TortureError: a run did not fail, or did not say which file it could not write; or lost a checkpoint that it
            had; or came to other bits once there was room.
    """
    # A run needs more on its way: the last checkpoint is there until the next one is whole.
    needed = sum(file.stat().st_blocks * 512 for file in whole.folder.rglob("*") if file.is_file())
    for number in range(num):
        with small_file_system(root / f"full-{number}") as place:
            ballast = place / "ballast"
            _leave(int(needed * (number + draw.random()) / num), ballast)
            child = start(whole.config, place / "runs", whole.cache, log=root / f"full-{number}.txt")
            code = child.wait()
            said = child.log.read_text()
            expect(code == 1, child, f"exit code {code} on a full disk")
            expect(f"cannot write {place}/" in said and "No space left" in said, child, "the file is not named")
            folder = child.checkpoints
            manifests = [] if folder is None else [path for path in folder.glob("*.json") if path.name[0] != "."]
            kept = None if folder is None else newest_sound(folder, print)
            expect(kept is not None or not manifests, child, "no checkpoint is whole")
            hits.places[f"full disk, {'before the first checkpoint' if kept is None else 'with a checkpoint'}"] += 1
            ballast.unlink()
            finish(whole, place / "runs", whole.cache)
            hits.num_runs += 1


def _leave(num_bytes: int, ballast: Path) -> None:
    """Fill the file system of `ballast` but for `num_bytes`."""
    room = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - num_bytes)
