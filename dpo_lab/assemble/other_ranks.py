"""The other processes of a run: started from its resolved config, watched, and never left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, final

from dpo_lab import ranks
from dpo_lab.errors import UserError
from dpo_lab.interruption import STOP_CODES, Stopped
from dpo_lab.processors import part, pin, pinned

MODULE = "dpo_lab.commands.rank"
VISIBLE = "CUDA_VISIBLE_DEVICES"

LOST_SECONDS = 5.0
"""An exchange that fails has most likely failed because another rank has ended; so long is it looked for."""

STUCK_SECONDS = 10.0
"""A rank that waits for one that has ended is told so by gloo at once; by NCCL it is not, and is given up."""

END_SECONDS = 60.0
"""What the others may take to end after the last exchange."""

POLL_SECONDS = 0.2
LAST_LINES = 30


class RankLostError(UserError):
    """A process that trained together with this one has ended before its time."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Together:
    """What the other ranks are started from.

    Attributes:
        config: resolved, with its secrets.
        contents: hashes of data, tokenizer, weights and reference as the first rank found them.
        checkpoint: the file to go on from; None from the beginning.
        reference: the hash of the reference that the checkpoint is taken to be made beside.
    """

    config: Mapping[str, Any]
    contents: Mapping[str, str]
    checkpoint: Path | None = None
    reference: str | None = None

    @property
    def num_ranks(self) -> int:
        return self.config["trainer"]["num_devices"]

    @property
    def accelerator(self) -> str:
        return self.config["trainer"]["accelerator"]


@contextmanager
def other_ranks(start: Together, give_up: Callable[[str], object]) -> Iterator[None]:
    """Have ranks 1, 2, ... train in processes of their own; in the block this process is rank 0.

    They end with this process, however it ends: each holds the other end of a pipe.

    Args:
        give_up: is told why, where this process waits for one that has ended and cannot be called back; it then ends.

    Raises:
        RankLostError: one of them has ended before its time.
        Stopped: one of them was told to stop when there was nothing to save.
    """
    meeting = Path(tempfile.mkdtemp(prefix="dpo_lab-ranks-"))
    others: list[OtherRank] = []
    is_over = threading.Event()
    try:
        others += [OtherRank(start, rank, meeting) for rank in range(1, start.num_ranks)]
        for other in others:
            other.wait_until_ready()
        threading.Thread(target=_watch, args=(others, is_over, give_up, meeting), daemon=True).start()
        ranks.join(0, start.num_ranks, meeting / "ranks", start.accelerator)
        yield
        ranks.leave()
    except RuntimeError as error:  # what torch raises where an exchange fails
        _tell_of_lost(others, error)
        raise
    else:
        for other in others:
            other.wait(END_SECONDS)
    finally:
        is_over.set()
        for other in others:
            other.end()
        ranks.leave(is_broken=True)
        shutil.rmtree(meeting, ignore_errors=True)


@final
class OtherRank:
    """One process; what it says is kept for the case that it fails."""

    def __init__(self, start: Together, rank: int, meeting: Path) -> None:
        self.rank = rank
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process lives
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **_devices(rank, start.accelerator)},
            start_new_session=True,  # Ctrl-C reaches the first rank, and all stop after the same step
        )
        pin(self._process.pid, part(pinned(), rank, start.num_ranks))
        given = {
            "config": start.config,
            "contents": start.contents,
            "rank": rank,
            "num_ranks": start.num_ranks,
            "meeting": str(meeting),
            "checkpoint": None if start.checkpoint is None else str(start.checkpoint),
            "reference": start.reference,
        }
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; `wait_until_ready` says why
            self._process.stdin.write(json.dumps(given).encode() + b"\n")  # not on disk: a value may be a secret
            self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        """Until it has done all that it can do alone.

        Raises:
            RankLostError: it has ended instead.
        """
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self._process.wait()
            raise _lost([self])

    def wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()

    def end(self) -> None:
        """At once: it holds nothing that is not also elsewhere."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what it did not read is lost with it
                pipe.close()
        self._log.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended, if it has: as `subprocess.Popen.returncode`."""
        return self._process.poll()

    def ending(self) -> str:
        """In words: the signal that it died of, or the last that it said."""
        code = self.code
        if code is not None and code < 0:
            return f"rank {self.rank} (process {self.pid}) was killed by {signal.Signals(-code).name}"
        self._log.seek(0)
        said = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        told = "".join(f"\n    {line}" for line in said[-LAST_LINES:]) or " it said nothing"
        return f"rank {self.rank} (process {self.pid}) ended with exit code {code}:{told}"


def _devices(rank: int, accelerator: str) -> dict[str, str]:
    """What names the one device of a rank, counted as CUDA counts those that this process may use."""
    if accelerator != "gpu":
        return {}
    named = os.environ.get(VISIBLE)
    names = str(rank) if named is None else [name for name in named.split(",") if name.strip()][rank]
    return {VISIBLE: names}


def _failed(others: Sequence[OtherRank]) -> list[OtherRank]:
    return [other for other in others if other.code not in (None, 0)]


def _lost(others: Sequence[OtherRank]) -> RankLostError:
    endings = "".join(f"\n  {other.ending()}" for other in others)
    return RankLostError(
        f"processes that train together have ended before their time, and this one with them:{endings}\n"
        "The same command goes on from the newest checkpoint, if any"
    )


def _tell_of_lost(others: Sequence[OtherRank], error: RuntimeError) -> None:
    """
    Raises:
        RankLostError, Stopped: another rank has ended, of which `error` is a consequence.
    """
    deadline = time.monotonic() + LOST_SECONDS
    while not _failed(others) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    time.sleep(POLL_SECONDS)  # others that end for the same reason
    failed = _failed(others)
    told = [other.code for other in failed if other.code in STOP_CODES]
    if told and len(told) == len(failed):
        raise Stopped(signal.Signals(told[0] - 128)) from error
    if failed:
        raise _lost(failed) from error


def _watch(
    others: Sequence[OtherRank], is_over: threading.Event, give_up: Callable[[str], object], meeting: Path
) -> None:
    """End this process where its only thread that could say so waits, on a device, for a rank that is gone."""
    while not is_over.wait(POLL_SECONDS):
        if ranks.seconds_waiting() > STUCK_SECONDS and (failed := _failed(others)):
            try:
                give_up(str(_lost(failed)))
            finally:
                shutil.rmtree(meeting, ignore_errors=True)
                os._exit(RankLostError.exit_code)
