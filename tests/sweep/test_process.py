"""A job as a process: what is told to it, and what is told of it. The process itself is `fake_job`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dpo_lab.processors import can_pin
from dpo_lab.sweep import process
from dpo_lab.sweep.job import Job
from dpo_lab.sweep.process import run_job
from dpo_lab.sweep.record import JobFolder, JobRecord, SweepFolder
from dpo_lab.sweep.slots import Slot

SLOT = Slot(("1",), 3)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(process, "MODULE", "tests.sweep.fake_job")
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setattr(process, "POLL_SECONDS", 0.05)
    monkeypatch.setenv(process.SWEEP, "")


def job(seed: int, **config: object) -> Job:
    whole = {"seed": seed, "fresh": False, "trainer": {"num_threads": None}, **config}
    return Job(number=4, config=whole, overrides=[f"seed={seed}"], sweep_id="abc")


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return SweepFolder(tmp_path / "sweep").job(4)


def begun(folder: JobFolder) -> list[str]:
    return (folder.path / "begun.txt").read_text().splitlines()


def test_a_job_gets_its_share_and_its_sweep(folder: JobFolder):
    record = run_job(job(1), folder, Slot(("2", "5"), 3, is_gpu=True))
    assert (record.status, record.exit_code, record.units, record.num_threads) == ("finished", 0, ["2", "5"], 3)
    assert begun(folder) == ["3 2,5 abc"]
    assert folder.read() == record
    assert record.run == str(folder.path / "run_of_the_job")
    assert "num_threads: 3" in folder.config.read_text()
    assert folder.log.read_text() == "seed 1 begins\n"


@pytest.mark.skipif(not can_pin(), reason="Linux alone pins processes; elsewhere jobs run unpinned")
def test_a_job_runs_on_its_own_processors_alone(folder: JobFolder):
    """Of those that are here, the last; no process can be pinned to one that is not."""
    all_of_them = sorted(os.sched_getaffinity(0))
    last = Slot((str(all_of_them[-1]),), 1, is_exclusive=True)
    assert run_job(job(1), folder, last).is_pinned
    assert json.loads((folder.path / "found.json").read_text())["processors"] == all_of_them[-1:]
    for free in (last._replace(is_exclusive=False), last._replace(units=("9999",))):
        assert run_job(job(1), folder, free).is_pinned is False
        assert json.loads((folder.path / "found.json").read_text())["processors"] == all_of_them
    assert sorted(os.sched_getaffinity(0)) == all_of_them


def test_threads_that_are_said_stay(folder: JobFolder):
    assert run_job(job(1, trainer={"num_threads": 2}), folder, SLOT).num_threads == 2


def attempt(folder: JobFolder) -> tuple[bool, str | None]:
    """`fresh` and `resume.run`, as the process was last told."""
    found = json.loads((folder.path / "found.json").read_text())
    return found["fresh"], (found["resume"] or {}).get("run")


def test_a_failure_tells_its_last_words(folder: JobFolder):
    record = run_job(job(7), folder, SLOT)
    assert (record.status, record.exit_code, record.problem) == ("failed", 1, "ValueError: boom")
    assert run_job(job(7), folder, SLOT).status == "failed"
    assert len(begun(folder)) == 2


def test_a_job_that_someone_else_kills_has_failed_and_says_why(folder: JobFolder):
    """The exit code is that of a shell: 128 + 9."""
    record = run_job(job(8), folder, SLOT)
    assert (record.status, record.exit_code) == ("failed", 137)
    assert record.problem == "killed by SIGKILL, which this sweep did not send; out of memory?"
    again = run_job(job(8), folder, SLOT)
    assert (again.status, again.problem) == ("finished", None)


def test_an_attempt_that_fresh_asks_for_goes_on_where_it_was_killed(folder: JobFolder, tmp_path: Path):
    """It is made once: `resume.run` names it from then on, unless what it is made from has changed."""
    data = tmp_path / "pairs.jsonl"
    data.write_text("{}")
    todo = job(8, fresh=True, data={"path": str(data)})
    run_job(todo, folder, SLOT)
    assert attempt(folder) == (True, None)
    run_job(todo, folder, SLOT)
    assert attempt(folder) == (False, str(folder.path / "run_of_the_job"))
    assert "fresh: true" in folder.config.read_text()
    data.write_text("{ }")
    run_job(todo, folder, SLOT)
    assert attempt(folder) == (True, None)


def test_a_run_that_another_process_is_at_is_waited_for(folder: JobFolder):
    assert run_job(job(5), folder, SLOT).status == "finished"
    assert len(begun(folder)) == 2


def test_whoever_is_told_to_stop_tells_the_job(folder: JobFolder):
    def interrupt() -> None:
        while not (folder.path / "begun.txt").exists():
            time.sleep(0.02)
        time.sleep(0.2)
        found = folder.read()
        statuses.append(found and found.status)
        os.kill(os.getpid(), signal.SIGINT)

    statuses: list[object] = []
    threading.Thread(target=interrupt).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_job(job(9), folder, SLOT)
    assert time.monotonic() - start < 20
    assert statuses == ["running"]
    found = folder.read()
    assert found is not None
    assert found.status == "interrupted"
    assert not folder.is_alive()


def test_a_job_of_a_command_that_is_gone_is_told_to_stop(folder: JobFolder, monkeypatch: pytest.MonkeyPatch):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    process.announce_sweep()
    assert not process.is_orphaned()
    monkeypatch.setenv(process.SWEEP, f"{socket.gethostname()} {gone.pid}")
    with pytest.raises(SystemExit):
        run_job(job(9), folder, SLOT)
    found = folder.read()
    assert found is not None
    assert found.status == "interrupted"
    monkeypatch.setenv(process.SWEEP, f"elsewhere {gone.pid}")
    assert not process.is_orphaned()


def test_a_job_of_a_sweep_that_is_told_to_stop_is_told_so_too(folder: JobFolder):
    """By a file in the sweep's folder, which workers on other machines see as well."""
    folder.stop.parent.mkdir(parents=True)
    folder.stop.touch()
    with pytest.raises(SystemExit):
        run_job(job(9), folder, SLOT)
    found = folder.read()
    assert found is not None
    assert (found.status, found.exit_code) == ("interrupted", None)
    assert not process.runs_a_job()


def test_secrets_reach_the_job_and_no_file(folder: JobFolder):
    token = "hf_" + "a1" * 12
    run_job(job(1, logger={"api_key": token}), folder, SLOT)
    assert not [path for path in folder.path.rglob("*") if path.is_file() and token in path.read_text()]


def test_a_record_of_a_process_that_is_gone_says_interrupted(folder: JobFolder):
    folder.path.mkdir(parents=True)
    folder.write(JobRecord(number=4, overrides=[], status="running"))
    found = folder.read()
    assert found is not None
    assert found.status == "interrupted"
