"""`dpo-lab sweep`: plans shown and run, sweeps that go on. Jobs are processes of `tests.sweep.fake_job`."""

import json
from pathlib import Path

import pytest

from dpo_lab.commands.cli import main
from dpo_lab.sweep import process
from dpo_lab.sweep.record import SweepFolder
from tests.config.stub_conf import write_conf

PLAN = """
about: two losses
losses:
  sigmoid: {grid: {loss.beta: [0.1, 0.5]}}
  ipo: {grid: {loss.normalization: [sum]}}
grid: {seed: [1]}
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    monkeypatch.setattr(process, "MODULE", "tests.sweep.fake_job")
    monkeypatch.setattr(process, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(root))
    folder = write_conf(tmp_path)
    (folder / "sweep").mkdir()
    (folder / "sweep" / "two.yaml").write_text(PLAN)
    return ["-cp", str(folder)]


def test_a_plan_is_shown_and_nothing_is_started(conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", "two", "--plan", "seed=1,2", *conf]) == 0
    said = capsys.readouterr().out
    assert said.startswith("two: two losses\n")
    rows = [line.split() for line in said.splitlines() if line[:1].isdigit()]
    assert rows[:2] == [["0", "sigmoid", "0.1", "1"], ["1", "sigmoid", "0.1", "2"]]
    assert rows[4] == ["4", "ipo", "1", "sum"]
    assert "6 runs, 0 of them finished" in said
    assert "note: 2 losses are compared, sigmoid, ipo at one optimizer.lr alone" in said
    assert "cost: not known" in said
    assert "dpo-lab train -m loss=sigmoid loss.beta=0.1 seed=1" in said
    assert list(workplace.iterdir()) == []


def test_a_plan_runs_and_the_same_command_goes_on(conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]):
    command = ["sweep", "two", "seed=8,1", "sweep.on_error=continue", *conf]
    assert main(command) == 1
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    told = capsys.readouterr()
    assert told.out == f"{folder}\n"
    assert "3 finished, 3 failed" in told.err
    sweep = SweepFolder(folder)
    assert [job.overrides for job in sweep.jobs()][:2] == [
        ["loss=sigmoid", "loss.beta=0.1", "seed=8", "sweep.on_error=continue"],
        ["loss=sigmoid", "loss.beta=0.1", "seed=1", "sweep.on_error=continue"],
    ]
    assert (sweep.read().plan, sweep.read().num_jobs) == ("two", 6)
    assert main(["sweep", "two", "seed=8,1", "sweep.on_error=stop", *conf]) == 0
    assert [path.name for path in (workplace / "runs" / ".sweeps").iterdir()] == [folder.name]
    assert "6 finished (3 of them before)" in capsys.readouterr().err
    with SweepFolder(folder).claimed():
        assert main(command) == 5
    assert "another process is at work on this sweep" in capsys.readouterr().err


def test_a_sweep_goes_on_by_its_folder_whatever_became_of_the_plan(
    conf: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert main(["sweep", "two", "seed=8", "hydra.sweep.dir=mine", *conf]) == 1
    (Path(conf[1]) / "sweep" / "two.yaml").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["sweep", "resume", str(workplace / "mine")]) == 0
    assert [job.status for job in SweepFolder(workplace / "mine").jobs()] == ["finished"] * 3
    assert list(elsewhere.iterdir()) == []


def test_flags_of_a_sweep_are_kept_for_its_folder(conf: list[str], workplace: Path):
    """A sweep of ``train -m`` with configs of its own."""
    assert main(["train", *conf, "-m", "seed=8"]) == 1
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    assert main(["sweep", "resume", str(folder)]) == 0


def test_what_is_wrong_is_said_and_nothing_is_started(
    conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["sweep", "tow", *conf]) == 2
    assert "no plan tow" in capsys.readouterr().err
    assert main(["sweep", "two", "loss.bata=1", "seed=1", *conf]) == 2
    assert "did you mean loss.beta?" in capsys.readouterr().err
    Path("mine.yaml").write_text("losses: {ipo: {grid: {loss.label_smoothing: [0.1]}}}")
    assert main(["sweep", "mine.yaml", *conf]) == 2
    assert "losses.ipo.grid: loss.label_smoothing=0.1: ipo does not take label_smoothing" in capsys.readouterr().err
    assert [path.name for path in workplace.iterdir()] == ["mine.yaml"]
    assert main(["train", *conf, "sweep=two"]) == 2
    assert "it is run by dpo-lab sweep two" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sweep", "resume"])


def test_a_secret_is_in_no_file_and_a_sweep_with_one_needs_its_command(
    conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
):
    token = "hf_" + "a1" * 12
    assert main(["sweep", "two", f"+logger.api_key={token}", "seed=8", *conf]) == 1
    files = [path for path in workplace.rglob("*") if path.is_file()]
    assert [path for path in files if token in path.read_text(errors="replace")] == []
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    assert json.loads((folder / "sweep.json").read_text())["num_jobs"] == 3
    assert main(["sweep", "resume", str(folder)]) == 2
    assert "was not kept, since it is a secret" in capsys.readouterr().err


def test_plans_are_listed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    assert "  beta_x_loss " in capsys.readouterr().out
    assert main(["sweep", "-sc", "query=bash"]) == 0
    assert "label_noise" in capsys.readouterr().out
