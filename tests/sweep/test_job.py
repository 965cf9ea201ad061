"""What is known of a job before it begins. Its run is a folder that says what a real one would."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dpo_lab.sweep.job import Job, find_ended, skip_job, stamp_inputs
from dpo_lab.sweep.record import JobFolder, JobRecord, Status, SweepFolder


def job(start: int = 1, **config: object) -> Job:
    whole = {"seed": 1, "fresh": False, "trainer": {"num_threads": 2}, **config}
    return Job(number=4, config=whole, overrides=["seed=1"], sweep_id="abc", start=start)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return SweepFolder(tmp_path / "sweep").job(4)


def end(todo: Job, folder: JobFolder, status: Status = "finished") -> JobRecord:
    """As a start of the sweep leaves the job."""
    run = folder.path / "run"
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps({"status": "finished" if status == "finished" else "failed"}))
    folder.config.write_text(OmegaConf.to_yaml(OmegaConf.create(todo.with_threads(2))))
    inputs = stamp_inputs(todo.config)
    return folder.write(replace(todo.record(), status=status, run=str(run), inputs=inputs, seconds=9.0))


def test_what_was_done_is_done_until_something_changes(folder: JobFolder, tmp_path: Path):
    data = tmp_path / "pairs.jsonl"
    data.write_text("{}")
    end(job(1, data={"path": str(data)}), folder)
    again = job(2, data={"path": str(data)})
    found = find_ended(again, folder, 2)
    assert found is not None
    assert (found.status, found.was_finished, found.start, found.units) == ("finished", True, 2, None)
    assert folder.read() == found
    assert find_ended(replace(again, start=3, config={**again.config, "seed": 2}), folder, 2) is None
    data.write_text("{ }")
    assert find_ended(replace(again, start=3), folder, 2) is None


def test_a_run_that_is_gone_is_made_again(folder: JobFolder):
    run = end(job(1), folder).run
    assert run is not None
    (Path(run) / "run.json").unlink()
    assert find_ended(job(2), folder, 2) is None


def test_fresh_asks_for_one_attempt(folder: JobFolder):
    """Of a job that was done without it for one more; what that came to is done."""
    end(job(1), folder)
    assert find_ended(job(2, fresh=True), folder, 2) is None
    end(job(2, fresh=True), folder)
    assert find_ended(job(3, fresh=True), folder, 2) is not None
    assert find_ended(job(4), folder, 2) is not None


@pytest.mark.parametrize("status", ["failed", "skipped", "interrupted", "finished"])
def test_what_ended_in_this_start_is_not_begun_again_in_it(folder: JobFolder, status: Status):
    """A failure is tried again by the next start; what was interrupted also by this one."""
    left = end(job(3), folder, status)
    assert find_ended(job(3), folder, 2) == (None if status == "interrupted" else left)
    assert (find_ended(job(4), folder, 2) is None) == (status != "finished")


def test_who_is_skipped_keeps_its_run_and_tells_no_secret(folder: JobFolder):
    token = "hf_" + "a1" * 12
    skip_job(replace(job(1), overrides=[f"+logger.api_key={token}"]), folder)
    assert token not in (folder.path / "job.json").read_text()
    run = end(job(1), folder, "interrupted").run
    record = skip_job(job(2), folder)
    assert (record.status, record.run, record.seconds, record.start) == ("skipped", run, None, 2)


def test_inputs_are_what_paths_name(tmp_path: Path):
    (tmp_path / "model").mkdir()
    config = {"model": {"path": str(tmp_path / "model")}, "runs_dir": str(tmp_path)}
    empty = stamp_inputs(config)
    (tmp_path / "other").write_text("x")
    assert stamp_inputs(config) == empty
    (tmp_path / "model" / "weights").write_text("x")
    assert stamp_inputs(config) != empty
