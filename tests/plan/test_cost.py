"""What a plan is expected to cost: from jobs of the same kind, and only from those."""

import json
from pathlib import Path
from typing import Any

import yaml

from dpo_lab.plan.cost import content_of, expected_cost, finished_runs
from tests.report.folders import write_run


def config(
    loss: str = "sigmoid", *, beta: float = 0.1, lr: float = 1e-3, seed: int = 0, steps: int = 9
) -> dict[str, Any]:
    return {
        "loss": {"_target_": f"dpo_lab.loss.{loss}.{loss}", "beta": beta},
        "optimizer": {"lr": lr},
        "trainer": {"max_steps": steps, "num_threads": None},
        "sweep": {"cpus_per_job": 1},
        "seed": seed,
    }


def write_job(
    runs_dir: Path, number: int, made: dict[str, Any], seconds: float, resumed: bool = False, **job: Any
) -> None:
    folder = runs_dir / ".sweeps" / "one" / "jobs" / str(number)
    folder.mkdir(parents=True)
    run = write_run(runs_dir, seed=number, info={"resumed": [{"step": 2}]} if resumed else None)
    threads = {**made, "trainer": {**made["trainer"], "num_threads": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump(threads))
    record = {"number": number, "overrides": [], "status": "finished", "run": str(run), "seconds": seconds, **job}
    (folder / "job.json").write_text(json.dumps(record))


def test_the_median_of_jobs_of_a_kind(tmp_path: Path):
    """Beta, learning rate and seed change no cost, the number of steps does; 10, 11 and 30 seconds give 11."""
    for number, seconds in enumerate((10.0, 30.0, 11.0)):
        write_job(tmp_path, number, config(beta=0.2 + number, lr=number, seed=number), seconds)
    write_job(tmp_path, 3, config(), 1.0, resumed=True)
    write_job(tmp_path, 4, config(), 1.0, was_finished=True)
    write_job(tmp_path, 5, config(), 1.0, status="failed")
    cost = expected_cost([config(), config("ipo"), config(steps=8)], tmp_path)
    assert cost.seconds == [11.0, 11.0, None]
    assert (cost.total, cost.num_unknown, cost.num_jobs, cost.num_runs) == (22.0, 1, 3, 0)
    assert cost.by_other_losses


def test_a_loss_that_was_measured_is_its_own_measure(tmp_path: Path):
    write_job(tmp_path, 0, config(), 10.0)
    write_job(tmp_path, 1, config("ipo"), 20.0)
    cost = expected_cost([config("ipo"), config()], tmp_path)
    assert (cost.seconds, cost.num_jobs, cost.by_other_losses) == ([20.0, 10.0], 2, False)


def test_single_runs_measure_what_no_job_has(tmp_path: Path):
    """A run of 70 s with the same loss comes before a job with another; one with more threads, and one that was
    resumed, are of another kind. With a job of its own kind the run does not count.
    """
    ended = {"finished": "2026-01-01T00:01:10+00:00", "num_threads": 1}
    for seed, info in enumerate([{}, {"num_threads": 4}, {"resumed": [{"step": 2}]}, {"status": "failed"}]):
        minute = {"finished": "2026-01-01T00:01:00+00:00"} if info else {}
        write_run(tmp_path, name="alone", seed=seed, config=config(seed=seed), info={**ended, **minute, **info})
    write_job(tmp_path, 0, config("ipo"), 20.0)
    cost = expected_cost([config(seed=7), config("hinge"), config(steps=8)], tmp_path)
    assert (cost.seconds, cost.num_jobs, cost.num_runs) == ([70.0, 20.0, None], 1, 1)
    write_job(tmp_path, 1, config(), 75.0)
    cost = expected_cost([config(seed=7)], tmp_path)
    assert (cost.seconds, cost.num_jobs, cost.num_runs, cost.by_other_losses) == ([75.0], 1, 0, False)


def test_without_jobs_nothing_is_known(tmp_path: Path):
    assert expected_cost([config()], tmp_path).seconds == [None]


def test_finished_runs_are_found_by_their_configs(tmp_path: Path):
    run = write_run(tmp_path, seed=3)
    write_run(tmp_path, seed=4, info={"status": "failed"})
    (broken,) = [write_run(tmp_path, seed=5)]
    (broken / "run.json").write_text("{")
    made = yaml.safe_load((run / "config.yaml").read_text())
    assert finished_runs(tmp_path) == {content_of({**made, "name": "other", "logger": {}}): run}
