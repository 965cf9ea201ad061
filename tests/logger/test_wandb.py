"""`logger=wandb`: real offline runs, read back from W&B's own files."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb as service

from dpo_lab.errors import UserError
from dpo_lab.logger.wandb import headlines, wandb
from dpo_lab.run import RunFolder

CONFIG: dict[str, Any] = {
    "seed": 3,
    "loss": {"_target_": "dpo_lab.loss.sigmoid.sigmoid", "beta": 0.1},
    "optimizer": {"_target_": "dpo_lab.optimizer.adamw.adamw", "lr": 1e-3},
    "logger": {"api_key": "do-not-tell"},
}


@pytest.fixture(autouse=True)
def no_account(monkeypatch, workplace):
    """No key, no netrc, no settings of whoever runs the tests; and no run left open by a failed test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("HOME", str(workplace / "home"))
    (workplace / "home").mkdir()
    yield
    if service.run is not None:
        service.finish(exit_code=1)


def wandb_files(folder: RunFolder) -> list[Path]:
    return list(folder.path.glob("wandb/*run-*/*.wandb"))


def records(folder: RunFolder) -> list[dict[str, Any]]:
    """Every record of the one .wandb file of a run."""
    (file,) = wandb_files(folder)
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in text.splitlines()]


def of_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in found if record["type"] == kind]


def test_an_offline_run_whole(workplace, claim, capfd):
    folder = claim("abc")
    logger = wandb(tags=["a", "b"])
    with logger.mirroring(folder, CONFIG, {"sweep": "sweep-7"}):
        logger.metrics(1, {"train/loss": 0.75})
        logger.metrics(5, {"train/loss": 0.5, "val/loss": 0.625})
        logger.table("samples", ["prompt", "reward"], [["hello", 1.0]])
        logger.summary({"val/accuracy": 0.875})
    found = records(folder)

    (run,) = of_type(found, "run")
    assert run["run_id"] == folder.info["wandb"]["id"]
    assert (run["project"], run["run_group"], run["job_type"]) == ("dpo-lab", "sweep-7", "train")
    assert (run["display_name"], run["tags"]) == ("demo/abc", ["a", "b"])
    config = run["config"]["update"]
    assert config["loss"] == CONFIG["loss"]
    assert (config["loss_name"], config["beta"], config["lr"], config["seed"]) == ("sigmoid", 0.1, 1e-3, 3)
    assert config["logger"] == {"api_key": "<redacted>"}

    rows = [item["item"] for item in of_type(found, "history")]
    assert [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] == [(1, 0.75), (5, 0.5)]
    assert [row["val/loss"] for row in rows if "val/loss" in row] == [0.625]
    assert of_type(found, "metric")[0]["step_metric"] == "step"
    (table,) = folder.path.glob("wandb/offline-run-*/files/media/table/samples*.json")
    assert json.loads(table.read_text())["data"] == [["hello", 1.0]]
    summary = {key: value for item in of_type(found, "summary") for key, value in item["update"].items()}
    assert summary["val/accuracy"] == 0.875
    assert of_type(found, "exit")[0].get("exit_code", 0) == 0

    # Not a word but how to sync, and not a file but under the run.
    out, err = capfd.readouterr()
    synced = wandb_files(folder)[0].parent
    assert (out, err) == ("", f"W&B: kept on this machine; to send it: wandb sync {synced}\n")
    assert sorted(path.name for path in workplace.iterdir()) == ["home", "runs"]
    assert not list((workplace / "home").rglob("*"))
    everything = b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    assert b"do-not-tell" not in everything
    assert not [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]


def test_two_runs_in_one_process_are_two_and_a_failed_one_says_so(claim):
    first, second = claim("one"), claim("two")
    logger = wandb(samples=False)
    with pytest.raises(RuntimeError), logger.mirroring(first, CONFIG, {}):
        stop(logger)
    assert service.run is None
    with (other := wandb()).mirroring(second, CONFIG, {}):
        other.metrics(1, {"train/loss": 0.25})
    ids = [folder.info["wandb"]["id"] for folder in (first, second)]
    assert len(set(ids)) == 2
    for folder, losses, code in ((first, [0.75], 1), (second, [0.25], 0)):
        found = records(folder)
        assert [item["item"]["train/loss"] for item in of_type(found, "history")] == losses
        assert of_type(found, "exit")[0].get("exit_code", 0) == code
    assert not list(first.path.rglob("samples*")), "samples=false keeps texts at home"


def test_a_run_that_goes_on_has_one_whole_history_under_one_id(claim):
    """Two rows and a kill after the second, which is cut off; then rows 2 and 3 of the process that goes on."""
    folder = claim("abc")
    logger = wandb()
    logger.start(folder, CONFIG, {})
    log(folder, 1, 0.75)
    log(folder, 2, 9.0)
    logger.finish("failed")
    first = folder.info["wandb"]["id"]
    folder.finish("failed")
    again = RunFolder.take_over(folder.path)
    again.rewind({"metrics": 1, "timing": 0, "predictions": 0})
    with wandb().mirroring(again, CONFIG, again.info):
        log(again, 2, 0.5)
        log(again, 3, 0.25)
    assert again.info["wandb"]["id"] == first
    rows = [item["item"] for item in of_type(records(again), "history")]
    assert [(row["step"], row["train/loss"]) for row in rows] == [(1, 0.75), (2, 0.5), (3, 0.25)]
    again.finish("finished")


def log(folder: RunFolder, step: int, loss: float) -> None:
    folder.metrics.append({"step": step, "train/loss": loss})
    service.log({"step": step, "train/loss": loss})


def stop(logger) -> None:
    logger.metrics(1, {"train/loss": 0.75})
    logger.table("samples", ["prompt"], [["private"]])
    raise RuntimeError("boom")


def test_an_open_run_is_not_joined(claim):
    folder = claim("abc")
    with wandb().mirroring(folder, CONFIG, {}), pytest.raises(UserError, match="a W&B run is open in this process"):
        wandb().start(claim("other"), CONFIG, {})


def test_trouble_in_the_middle_is_said_once_and_the_run_goes_on(claim, capfd, monkeypatch):
    folder, logger = claim("abc"), wandb()
    logger.start(folder, CONFIG, {})

    def broken(self, *arguments, **options):
        raise ConnectionError("pipe is gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(service.run), "log", broken)
        logger.metrics(1, {"train/loss": 0.5})
        logger.metrics(2, {"train/loss": 0.5})
    logger.finish("finished")
    logger.finish("finished")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("W&B failed (metrics: ConnectionError: pipe is gone)")
    assert folder.info["wandb"]["trouble"] == "metrics: ConnectionError: pipe is gone"


def test_disabled_does_nothing(claim, capfd):
    folder = claim("abc")
    with (logger := wandb(mode="disabled")).mirroring(folder, CONFIG, {}):
        logger.metrics(1, {"train/loss": 0.5})
    assert "wandb" not in folder.info
    assert not (folder.path / "wandb").exists()
    assert capfd.readouterr() == ("", "")


def test_auto_obeys_the_environment(claim, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = claim("abc")
    with wandb().mirroring(folder, CONFIG, {}):
        assert "wandb" not in folder.info


def test_online_without_a_key_says_what_to_do(claim):
    with pytest.raises(UserError, match=r"wandb login.*WANDB_API_KEY.*logger\.mode=offline"):
        wandb(mode="online").start(claim("abc"), CONFIG, {})


ONLINE = """
import sys
import dpo_lab.logger.wandb as mirror
from dpo_lab.run import RunFolder
mirror.INIT_SECONDS = 2.0
folder = RunFolder.claim("runs", "demo", "abc")
logger = mirror.wandb(mode=sys.argv[1])
with logger.mirroring(folder, {}, {}):
    logger.metrics(1, {"train/loss": 0.5})
print(folder.info["wandb"]["mode"])
"""


def run_without_server(mode: str, root: Path, workplace: Path) -> subprocess.CompletedProcess:
    """A process with a key, and a server address where nobody listens. Its own: W&B reads some settings once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "WANDB_API_KEY": "0123456789" * 4,
        "WANDB_BASE_URL": f"http://127.0.0.1:{port}",
        "PYTHONPATH": str(root),
    }
    command = [sys.executable, "-c", ONLINE, mode]
    return subprocess.run(command, env=environment, cwd=workplace, capture_output=True, text=True, check=False)


def test_online_without_a_server_is_an_error_within_seconds(workplace, root):
    done = run_without_server("online", root, workplace)
    assert done.returncode == 1
    assert "UserError: logger.mode=online, but W&B does not take the run" in done.stderr
    assert "0123456789012345" not in done.stdout + done.stderr


def test_auto_without_a_server_goes_on_offline(workplace, root):
    done = run_without_server("auto", root, workplace)
    assert (done.returncode, done.stdout) == (0, "offline\n")
    first, second = done.stderr.splitlines()
    assert first.startswith("W&B does not take the run (")
    assert "wandb sync" in second
    assert len(list(workplace.glob("runs/demo/abc/wandb/*run-*/*.wandb"))) == 1


def test_a_key_in_netrc_is_found(workplace, monkeypatch):
    from dpo_lab.logger.wandb_account import has_key

    assert not has_key()
    (workplace / "netrc").write_text("machine api.wandb.ai login user password abc\n")
    monkeypatch.setenv("NETRC", str(workplace / "netrc"))
    assert has_key()


def test_headlines_are_always_there():
    empty = headlines({})
    assert set(empty) == set(headlines(CONFIG))
    assert set(empty.values()) == {None}
