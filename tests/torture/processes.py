"""Runs of training in processes forked from this one, so that each begins with everything imported."""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import dpo_lab.commands.train as command
from dpo_lab.errors import UserError
from dpo_lab.paths import CONF_DIR
from dpo_lab.run.files import PARTIAL

NUM_STEPS = 12  # no more than `ProgressReport` says one by one

SMALL = (
    "model.hidden_size=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.vocab_size=300",
    "data.num_pairs=34",
    "data.num_validation_pairs=8",
    "data.num_test_pairs=4",
    "data.num_demonstrations=16",
    "start.max_steps=2",
    "start.global_batch_size=8",
    "trainer.global_batch_size=8",
    f"trainer.max_steps={NUM_STEPS}",
    "trainer.validate_every=4",
    "trainer.num_threads=1",
    "samples.num=2",
    "samples.max_new_tokens=4",
    "logger=local",
    "name=torture",
)
"""`NUM_STEPS` steps over windows of 8, 8, 8, 8 and 2 pairs, shuffled: two and a half epochs with a ragged end."""


def config(*overrides: str) -> DictConfig:
    """The config that ``dpo-lab train`` makes of `SMALL` and `overrides`."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", [*SMALL, *overrides])


@dataclass(frozen=True)
class Child:
    """A run of training under way; what it says goes to `log`."""

    pid: int
    folder: Path
    log: Path

    @property
    def checkpoints(self) -> Path | None:
        found = list(self.folder.glob("*/checkpoints"))
        return found[0] if found else None

    def is_alive(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self) -> int:
        """Its exit code, or minus the signal that it died of."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> int:
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def terminate(self, number: signal.Signals) -> tuple[int, int]:
        """Send a signal: how many optimizer steps were done when it came, and the exit code."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        num_steps = self.num_steps()
        os.kill(self.pid, number)
        os.kill(self.pid, signal.SIGCONT)
        return num_steps, self.wait()

    def num_steps(self) -> int:
        """Optimizer steps that it has said it has made; each is said."""
        said = [line.split()[1] for line in self.log.read_text().splitlines() if line.startswith("training ")]
        return int(said[-1].partition("/")[0]) if said else 0


def start(cfg: DictConfig, folder: Path, cache: Path, *, log: Path | None = None) -> Child:
    """Train `cfg` in a child, its runs in `folder`; what it says goes to `log`, by default into that folder."""
    cfg = OmegaConf.merge(cfg, {"runs_dir": str(folder), "cache_dir": str(cache)})  # pyright: ignore
    folder.mkdir(parents=True, exist_ok=True)
    log = log or folder / "log.txt"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return Child(pid, folder / "torture", log)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # Under pytest these write to where it captures what a test says, and not to the descriptors.
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    os._exit(_train(cfg))


def _train(cfg: Any) -> int:
    """The exit code of the command. Nothing may leave this function: behind it stands the parent's code."""
    command.draw_run = lambda *_: None  # a second of drawing, in which nothing of a run is at stake
    try:
        return command.train(cfg, [])
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()


@contextmanager
def other_file_system(folder: Path) -> Iterator[Path]:
    """A folder for temporary files on another file system than `folder`, where there is one."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and shared.stat().st_dev != folder.stat().st_dev:
        made = Path(tempfile.mkdtemp(dir=shared))
        before, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), str(made)
        tempfile.tempdir = None
        try:
            yield made
        finally:
            tempfile.tempdir = None
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
            shutil.rmtree(made)
    else:
        yield Path(tempfile.gettempdir())


def wait_for_save(child: Child, number: int, seconds: float) -> bool:
    """Until the `number`-th save from now is under way; False where the child ended first."""
    seen: set[str] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        folder = child.checkpoints
        if folder is not None:
            with suppress(FileNotFoundError):  # the run starts over
                seen |= {path.name for path in folder.glob(f".*{PARTIAL}")}
        if len(seen) >= number:
            return True
        if not child.is_alive():
            return False
    raise TimeoutError(f"no save within {seconds} s: see {child.log}")


def wait_for_step(child: Child, number: int, seconds: float) -> None:
    """Until it has said that it made optimizer step `number`, or has ended."""
    deadline = time.monotonic() + seconds
    while child.num_steps() < number and child.is_alive():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no step {number} within {seconds} s: see {child.log}")
        time.sleep(0.001)


def left_behind(folder: Path) -> list[str]:
    """Files that a run which is done should not have left."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(PARTIAL)]
