"""One job of a sweep, from a resolved config on standard input: what a sweep starts, a process each."""

import ctypes
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from dpo_lab.commands.complain import as_typed, complain, complain_of_bug
from dpo_lab.errors import UserError
from dpo_lab.processors import part, pin, pinned
from dpo_lab.run.files import write_text
from dpo_lab.sweep.process import STARTER
from dpo_lab.sweep.record import JobFolder

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    """Train, with the exit code of ``dpo-lab train``."""
    _end_with_starter()
    given = json.load(sys.stdin)
    folder = JobFolder(Path(given["folder"]))
    with folder.lock.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _train(given, folder)
        except UserError as error:
            complain(f"{as_typed('dpo-lab train', given['overrides'])}: {error}")
            return error.exit_code
        except KeyboardInterrupt:
            return 130
        except Exception:  # the end of the process: a bug, whose traceback belongs into the folder of the job
            complain_of_bug()
            return 1


def _train(given: dict[str, Any], folder: JobFolder) -> int:
    from omegaconf import DictConfig

    from dpo_lab.config import check

    config = DictConfig(given["config"])
    check(config)
    pin(os.getpid(), part(pinned(), 0, given["config"]["trainer"].get("num_devices") or 1))  # the others get theirs
    from dpo_lab.commands.train import train

    def found(path: Path, was_finished: bool) -> None:
        write_text(folder.run, "\n".join([str(path), *(["already finished"] if was_finished else [])]) + "\n")

    return train(config, given["overrides"], sweep=given["sweep"], found=found)


def _end_with_starter() -> None:
    """Have the kernel tell this process to stop, as SIGTERM does, when the one that started it is gone."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    starter = os.environ.get(STARTER)
    if starter is not None and os.getppid() != int(starter):  # it was gone before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
