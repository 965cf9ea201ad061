"""`dpo-lab sweep` with a plan that searches. Jobs are processes of `tests.sweep.fake_job`, best at beta 0.3."""

import csv
import sys
from pathlib import Path

import pytest

from dpo_lab.commands import search
from dpo_lab.commands.cli import main
from dpo_lab.sweep import process
from dpo_lab.sweep.record import SweepFolder
from tests.config.stub_conf import write_conf
from tests.sweep.fake_job import SLOW

PLAN = """
set: {seed: 20, trainer.warmup: 1}
search:
  space: {loss.beta: {low: 0.01, high: 1.0, log: true}}
  objective: {val/score: maximize}
  num_trials: 4
  warmup_trials: 2
  batch: 2
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    monkeypatch.setattr(process, "MODULE", "tests.sweep.fake_job")
    monkeypatch.setattr(process, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(search, "WATCH_SECONDS", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(root))
    folder = write_conf(tmp_path)
    (folder / "sweep").mkdir()
    (folder / "sweep" / "best.yaml").write_text(PLAN)
    return ["-cp", str(folder)]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_search_finds_keeps_and_goes_on(conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", "best", *conf]) == 0
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    said = capsys.readouterr().out
    assert "best trial:\n  job " in said and said.endswith(f"{folder}\n")
    rows = table(folder)
    assert [row["ending"] for row in rows] == ["complete"] * 4
    best = max(rows, key=lambda row: float(row["val/score"]))
    assert [row["trial"] for row in rows if row["best"] == "1"] == [best["trial"]]
    assert float(best["val/score"]) == pytest.approx(-4 * abs(float(best["loss.beta"]) - 0.3), abs=1e-4)
    overrides = SweepFolder(folder).jobs()[0].overrides
    assert overrides[:2] == ["seed=20", "trainer.warmup=1"]
    assert overrides[2] == f"loss.beta={float(rows[0]['loss.beta']):.6g}"
    # More trials are the same search; what is done is not done again.
    assert main(["sweep", "best", "search.num_trials=5", *conf]) == 0
    assert len(table(folder)) == 5
    assert table(folder)[:4] == [
        {**row, "best": found["best"]} for row, found in zip(rows, table(folder), strict=False)
    ]
    assert [len((folder / "jobs" / str(n) / "begun.txt").read_text().splitlines()) for n in range(5)] == [1] * 5
    (Path(conf[1]) / "sweep" / "best.yaml").unlink()
    assert main(["sweep", "resume", str(folder)]) == 0
    assert len(table(folder)) == 5


def test_trials_that_are_behind_are_ended(
    conf: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Two near the best run to their end; one far off is told to stop at a validation, and is not begun again later."""
    monkeypatch.setenv(SLOW, "1")
    plan = PLAN.replace("{low: 0.01, high: 1.0, log: true}", "[0.3, 0.31, 0.9]").replace("batch: 2", "batch: 1")
    plan = plan.replace("trainer.warmup: 1", "trainer.validate_every: 1")
    more = "num_trials: 4\n  sampler: random\n  seed: 11\n  prune: {warmup_trials: 2}"
    (Path(conf[1]) / "sweep" / "best.yaml").write_text(plan.replace("num_trials: 4", more))
    assert main(["sweep", "best", *conf]) == 0
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    betas = [float(row["loss.beta"]) for row in table(folder)]
    assert 0.9 in betas[2:] and 0.9 not in betas[:2], "optuna draws otherwise: take another seed"
    endings = ["pruned" if beta == 0.9 else "complete" for beta in betas]
    assert [row["ending"] for row in table(folder)] == endings
    jobs = SweepFolder(folder).jobs()
    assert [job.status for job in jobs] == [ending.replace("complete", "finished") for ending in endings]
    assert (folder / "jobs" / str(betas.index(0.9)) / "prune.txt").read_text().startswith("val/score -")
    assert "pruned" in capsys.readouterr().err
    assert main(["sweep", "resume", str(folder)]) == 0
    assert [len((folder / "jobs" / str(n) / "begun.txt").read_text().splitlines()) for n in range(4)] == [1] * 4


def test_two_objectives_give_a_front(conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]):
    plan = PLAN.replace("{val/score: maximize}", "{val/score: maximize, samples/kl: minimize}")
    (Path(conf[1]) / "sweep" / "best.yaml").write_text(plan)
    assert main(["sweep", "best", *conf]) == 0
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    front = [row for row in table(folder) if row["best"] == "1"]
    assert f"{len(front)} trials that no other beats in everything" in capsys.readouterr().out
    for row in table(folder):
        is_beaten = any(
            float(other["val/score"]) >= float(row["val/score"])
            and float(other["samples/kl"]) < float(row["samples/kl"])
            for other in table(folder)
        )
        assert (row["best"] == "0") == is_beaten


def test_a_search_is_shown_and_checked_before_it_starts(
    conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert main(["sweep", "best", "--plan", "search.num_trials=7", *conf]) == 0
    said = capsys.readouterr().out
    assert "loss.beta: 0.01 to 1 (log)" in said
    assert "7 trials by tpe, for val/score (maximize); none is ended early" in said
    assert main(["sweep", "best", "search.nun_trials=7", *conf]) == 2
    assert "did you mean search.num_trials?" in capsys.readouterr().err
    (Path(conf[1]) / "sweep" / "best.yaml").write_text(
        PLAN.replace("low: 0.01", "low: -1").replace("log: true", "log: false")
    )
    assert main(["sweep", "best", *conf]) == 2
    assert "search.space: loss.beta: must be greater than 0, got -1" in capsys.readouterr().err
    (Path(conf[1]) / "sweep" / "best.yaml").write_text(PLAN.replace("batch: 2", "prune: {}"))
    assert main(["sweep", "best", *conf]) == 2
    assert "search.prune: a trial is judged by validation on its way" in capsys.readouterr().err
    (Path(conf[1]) / "sweep" / "best.yaml").write_text(PLAN)
    monkeypatch.delitem(sys.modules, "dpo_lab.plan.study", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", "best", *conf]) == 2
    assert "pip install 'dpo-lab[search]'" in capsys.readouterr().err
    assert list(workplace.iterdir()) == []


def test_a_search_that_stops_at_a_failure_goes_on_from_there(conf: list[str], workplace: Path):
    """Each of two trials fails when it is begun first: two starts stop at one each, the third comes to the end."""
    plan = PLAN.replace("seed: 20", "seed: 21, sweep.on_error: stop").replace("batch: 2", "batch: 1")
    (Path(conf[1]) / "sweep" / "best.yaml").write_text(plan.replace("num_trials: 4", "num_trials: 2"))
    assert [main(["sweep", "best", *conf]) for _ in range(3)] == [1, 1, 0]
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    assert [row["ending"] for row in table(folder)] == ["complete"] * 2
    assert [len((folder / "jobs" / str(n) / "begun.txt").read_text().splitlines()) for n in range(2)] == [2, 2]


def test_an_objective_that_is_no_curve_is_said(conf: list[str], capsys: pytest.CaptureFixture[str]):
    (Path(conf[1]) / "sweep" / "best.yaml").write_text(PLAN.replace("val/score", "val/scroe"))
    assert main(["sweep", "best", *conf]) == 2
    assert "no curve val/scroe in " in capsys.readouterr().err
