"""Sweeps that meet failures, killed jobs and killed workers. Jobs are processes of `tests.sweep.fake_job`."""

import os
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from joblib.externals.loky.process_executor import TerminatedWorkerError

from dpo_lab.commands.cli import main
from dpo_lab.sweep import process
from dpo_lab.sweep.record import SweepFolder
from tests.config.stub_conf import write_conf


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    monkeypatch.setattr(process, "MODULE", "tests.sweep.fake_job")
    monkeypatch.setattr(process, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(root))
    return ["-cp", str(write_conf(tmp_path))]


@pytest.fixture
def launcher() -> type[Launcher]:
    """The class that Hydra has loaded, which is not the one that an import gives."""
    loaded = Plugins.instance().discover(Launcher)
    (found,) = [each for each in loaded if each.__name__ == "BasicLauncher" and issubclass(each, Launcher)]
    return found


def num_begun(folder: Path, number: int) -> int:
    """How often the process of a job was started."""
    return len((folder / "jobs" / str(number) / "begun.txt").read_text().splitlines())


def test_a_sweep_can_stop_at_its_first_failure_and_goes_on_from_there(conf: list[str], workplace: Path) -> None:
    """Seed 8 fails the first time alone, 7 always: each start tries what failed before, and stops at its own."""
    command = ["train", *conf, "-m", "seed=1,8,2,7,3", "sweep.on_error=stop"]
    assert main(command) == 1
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    sweep = SweepFolder(folder)
    assert [job.status for job in sweep.jobs()] == ["finished", "failed", "skipped", "skipped", "skipped"]
    assert main(command) == 1
    assert [job.status for job in sweep.jobs()] == ["finished", "finished", "finished", "failed", "skipped"]
    assert main(["sweep", "resume", str(folder)]) == 1
    assert [job.status for job in sweep.jobs()] == ["finished", "finished", "finished", "failed", "skipped"]
    assert [num_begun(folder, number) for number in range(4)] == [1, 2, 1, 2]


def test_fresh_makes_one_attempt_of_each_job_of_a_sweep(conf: list[str], workplace: Path) -> None:
    """A second attempt at what was done, then nothing more, whichever command goes on."""
    command = ["train", *conf, "-m", "seed=1,2"]
    assert main(command) == 0
    for _ in range(2):
        assert main([*command, "fresh=true"]) == 0
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    assert main(["sweep", "resume", str(folder)]) == 0
    assert [num_begun(folder, number) for number in range(2)] == [2, 2]


@pytest.mark.parametrize("entry", ["train", "plan"])
def test_a_sweep_outlives_the_workers_of_its_launcher(
    entry: str,
    conf: list[str],
    launcher: type[Launcher],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The launcher breaks down, as joblib's does, behind every job that it has run; seed 7 fails, and fails once."""
    launch, num_known = launcher.launch, 0

    def launch_and_break(self: Launcher, overrides: Any, initial_job_idx: int) -> list[Any]:
        nonlocal num_known
        returned: list[Any] = []
        for number, each in enumerate(overrides):
            returned += launch(self, [each], initial_job_idx + number)
            num_run = len(list(workplace.glob("runs/.sweeps/*/jobs/*/begun.txt")))
            if num_run > num_known:
                num_known = num_run
                raise TerminatedWorkerError("A worker process was unexpectedly terminated.")
        return returned

    monkeypatch.setattr(launcher, "launch", launch_and_break)
    command = ["train", *conf, "-m", "seed=1,7,2"]
    if entry == "plan":
        Path("plan.yaml").write_text("grid: {seed: [1, 7, 2]}")
        command = ["sweep", "plan.yaml", *conf]
    assert main(command) == 1
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    assert [job.status for job in SweepFolder(folder).jobs()] == ["finished", "failed", "finished"]
    assert [num_begun(folder, number) for number in range(3)] == [1, 1, 1]
    said = capsys.readouterr().err
    assert "TerminatedWorkerError" not in said and said.count("a worker of the launcher was killed") == 3


def test_a_sweep_whose_workers_only_die_is_given_up(
    conf: list[str], launcher: type[Launcher], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object) -> None:
        raise TerminatedWorkerError("A worker process was unexpectedly terminated.")

    monkeypatch.setattr(launcher, "launch", lambda *_, **__: break_down())
    assert main(["train", *conf, "-m", "seed=1,2"]) == 1
    said = capsys.readouterr().err
    assert "given up, since 3 times no job ended" in said and "Traceback" not in said


def test_what_a_launcher_cannot_do_is_told_with_its_traceback(
    conf: list[str], launcher: type[Launcher], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no such partition")

    monkeypatch.setattr(launcher, "launch", refuse)
    assert main(["train", *conf, "-m", "seed=1,2"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "RuntimeError: no such partition" in said
    assert "HYDRA_FULL_ERROR" not in os.environ
