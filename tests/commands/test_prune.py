"""`dpo-lab runs prune`: what a rule does not keep goes, and nothing else, however folders are linked."""

import fcntl
import json
from pathlib import Path

import pytest

from dpo_lab.commands import cli
from dpo_lab.run.claim import LOCK
from dpo_lab.run.read import read_info
from tests.report.folders import rows, write_run

ACCURACIES = {("sigmoid", 0): 0.60, ("sigmoid", 1): 0.70, ("ipo", 0): 0.80, ("ipo", 1): 0.90}
BY_ACCURACY = ("--by", "val/rewards/accuracies")


@pytest.fixture(autouse=True)
def made(workplace: Path) -> None:
    """Two losses with two seeds each, and a run that failed; each with checkpoints of 1000 bytes and a model of 500."""
    for (loss, seed), accuracy in ACCURACIES.items():
        info = {"started": f"2026-01-0{1 + seed}T00:00:00+00:00"}
        fill(write_run(workplace / "runs", loss=loss, seed=seed, metrics=rows(accuracy), info=info))
    fill(write_run(workplace / "runs", id="broken", info={"status": "failed"}))


def fill(run: Path) -> None:
    for name, size in (
        ("checkpoints/step-00000002.ckpt", 990),
        ("checkpoints/step-00000002.json", 10),
        ("model/w", 500),
    ):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(b"x" * size)
    (run / LOCK).touch()


def prune(*words: str) -> int:
    return cli.main(["runs", "prune", *words])


def files() -> set[str]:
    return {str(path.relative_to("runs/made")) for path in Path("runs/made").rglob("*")}


def with_checkpoints() -> set[str]:
    return {path.parent.name for path in Path("runs/made").glob("*/checkpoints")}


def test_nothing_goes_without_yes(capsys: pytest.CaptureFixture[str]):
    before = files()
    assert prune("--keep", "best", "1", *BY_ACCURACY, "--drop", "checkpoints", "--drop", "model") == 0
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()[1:]]
    assert lines[:2] == [
        ["made/ipo-0.1-0", "finished", "checkpoints", "1.0", "kB"],
        ["made/ipo-0.1-0", "finished", "model", "500", "B"],
    ]
    assert len(lines) == 6 and "made/ipo-0.1-1" not in said.out
    assert "4.5 kB in 6 folders; nothing was deleted" in said.err
    assert "1 runs have no val/rewards/accuracies, and are left alone" in said.err
    assert files() == before


def test_the_best_of_each_loss_stay_and_the_rest_is_noted(capsys: pytest.CaptureFixture[str]):
    assert prune("--keep", "best", "1", *BY_ACCURACY, "--per", "loss", "--drop", "checkpoints", "--yes") == 0
    assert with_checkpoints() == {"sigmoid-0.1-1", "ipo-0.1-1", "broken"}
    assert "deleted 2.0 kB" in capsys.readouterr().err
    run = Path("runs/made/ipo-0.1-0")
    assert [entry["what"] for entry in read_info(run)["pruned"]] == ["checkpoints"]
    assert (run / "model/w").exists() and (run / "metrics.jsonl").exists()


def test_lower_is_better_for_a_loss_and_where_it_is_said():
    assert prune("status=finished", "--keep", "best", "1", "--by", "train/loss", "--drop", "model") == 0
    assert (
        prune("loss=ipo", "--keep", "best", "1", *BY_ACCURACY, "--mode", "min", "--drop", "checkpoints", "--yes") == 0
    )
    assert with_checkpoints() == {"sigmoid-0.1-0", "sigmoid-0.1-1", "ipo-0.1-0", "broken"}


def test_the_newest_stay():
    assert prune("loss=sigmoid", "status=finished", "--keep", "newest", "1", "--drop", "all", "--yes") == 0
    assert {path.name for path in Path("runs/made").iterdir()} == {"sigmoid-0.1-1", "ipo-0.1-0", "ipo-0.1-1", "broken"}


def test_failed_runs_go_whole():
    assert prune("status=failed", "--drop", "all", "--drop", "model", "--yes") == 0
    assert {path.name for path in Path("runs/made").iterdir()} == {f"{loss}-0.1-{seed}" for loss, seed in ACCURACIES}


def test_a_run_at_work_is_left_alone(capsys: pytest.CaptureFixture[str]):
    before = files()
    with Path("runs/made/broken", LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prune("loss=sigmoid", "status!=finished", "--drop", "all", "--yes") == 0
    assert "left alone: made/broken: it is at work" in capsys.readouterr().err
    assert files() == before


def test_nothing_outside_of_a_run_goes_by_a_link(workplace: Path, capsys: pytest.CaptureFixture[str]):
    """A run elsewhere under a linked name, a run that is a link, checkpoints that are one, a link inside of a run."""
    elsewhere = workplace / "elsewhere"
    fill(write_run(elsewhere, id="precious", info={"status": "failed"}))
    Path("runs/linked").symlink_to(elsewhere / "made")
    Path("runs/made/also").symlink_to(elsewhere / "made/precious")
    keep = workplace / "keep"
    keep.mkdir()
    (keep / "file").write_text("precious")
    fill(write_run(workplace / "runs", id="holder", info={"status": "failed"}))
    Path("runs/made/holder/model/link").symlink_to(keep)
    (Path("runs/made/broken/checkpoints")).rename(elsewhere / "checkpoints")
    Path("runs/made/broken/checkpoints").symlink_to(elsewhere / "checkpoints")
    assert prune("status=failed", "--drop", "checkpoints", "--yes") == 0
    said = capsys.readouterr().err
    assert "left alone: linked/precious: it is reached by a link" in said
    assert "left alone: made/also: it is reached by a link" in said
    assert "left alone: made/broken: checkpoints is a link" in said
    assert prune("status=failed", "--drop", "all", "--yes") == 0
    assert not Path("runs/made/holder").exists() and not Path("runs/made/broken").exists()
    assert (keep / "file").read_text() == "precious"
    assert (elsewhere / "checkpoints/step-00000002.ckpt").exists()
    assert (elsewhere / "made/precious/model/w").exists() and Path("runs/made/also").is_symlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--drop", "all"], "which runs?"),
        (["status=failed", "--keep", "best", "3", "--drop", "all"], "by which curve?"),
        (["--keep", "worst", "3", "--drop", "all"], "must be best N or newest N"),
        (["--keep", "newest", "x", "--drop", "all"], "must be best N or newest N"),
        (["--keep", "newest", "1", *BY_ACCURACY, "--drop", "all"], "go with --keep best"),
        (["status=failed", *BY_ACCURACY, "--drop", "all"], "say what --keep keeps"),
        (["--keep", "best", "1", "--by", "val/rewards/acuracies", "--drop", "all"], "did you mean val/rewards/acc"),
        (["status=failed", "--drop", "all", "--runs-dir", "none"], "no such folder"),
    ],
)
def test_a_rule_that_says_too_little_deletes_nothing(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    before = files()
    assert prune(*words, "--yes") == 2
    assert said in capsys.readouterr().err and files() == before


def test_a_pruned_run_is_still_read_and_reported():
    assert prune("loss=ipo", "--drop", "model", "--drop", "checkpoints", "--yes") == 0
    assert cli.main(["report", "runs"]) == 0
    assert json.loads(Path("runs/made/ipo-0.1-0/run.json").read_text())["status"] == "finished"
