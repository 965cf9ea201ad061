"""A run folder: claimed once, written whole, left with a true status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from dpo_lab.errors import UserError
from dpo_lab.run import AlreadyFinished, FolderClaimed, RunFolder, read_run, status_after
from dpo_lab.run.files import write_json

HOLD = """
import sys
from dpo_lab.run import RunFolder
folder = RunFolder.claim(sys.argv[1], "demo", "abc")
print(folder.path, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def folder(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as folder:
        yield folder


def test_layout_and_first_record(workplace, folder):
    assert folder.path == workplace / "demo" / "abc"
    assert sorted(path.name for path in workplace.rglob("*")) == [".lock", "abc", "demo", "run.json"]
    info = json.loads((folder.path / "run.json").read_text())
    assert (info["status"], info["id"], info["name"], info["attempt"]) == ("running", "abc", "demo", 1)


def test_a_second_process_is_refused_while_the_first_lives(workplace, root: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workplace)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        held = Path(holder.stdout.readline().strip())
        with pytest.raises(FolderClaimed, match=str(held)) as refused:
            RunFolder.claim(workplace, "demo", "abc")
        assert refused.value.path == held
        assert refused.value.exit_code == 5
        assert isinstance(refused.value, UserError)
    finally:
        holder.kill()
        holder.communicate()
    # Killed, it left no status: whoever comes next takes the folder over, and it stays as it is until he begins.
    again = RunFolder.claim(workplace, "demo", "abc")
    assert again.is_taken_over and again.path == held
    with pytest.raises(FolderClaimed):
        RunFolder.claim(workplace, "demo", "abc")
    assert json.loads((held / "run.json").read_text())["pid"] == holder.pid
    again.let_go()


def test_a_second_claim_in_the_same_process_is_refused(workplace, folder):
    with pytest.raises(FolderClaimed):
        RunFolder.claim(workplace, "demo", "abc")


def test_only_one_of_many_processes_gets_it(workplace, root: Path):
    code = (
        "import sys\nfrom dpo_lab.run import RunFolder, FolderClaimed\n"
        "try: folder = RunFolder.claim(sys.argv[1], 'demo', 'abc'); print('mine', flush=True)\n"
        "except FolderClaimed: print('refused', flush=True)\n"
        "sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code, str(workplace)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, cwd=root, text=True, stdin=pipe, stdout=pipe) for _ in range(4)]
    answers = sorted(process.stdout.readline().strip() for process in processes if process.stdout)
    for process in processes:
        process.communicate("\n")
    assert answers == ["mine", "refused", "refused", "refused"]
    assert sorted(path.name for path in (workplace / "demo").iterdir()) == ["abc"]


def test_a_finished_run_is_answered_with_its_path(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as folder:
        pass
    with pytest.raises(AlreadyFinished, match=f"already finished: {folder.path}") as news:
        RunFolder.claim(workplace, "demo", "abc")
    assert news.value.path == folder.path


def test_fresh_makes_another_attempt(workplace):
    for _ in range(3):
        with RunFolder.claim(workplace, "demo", "abc", fresh=True):
            pass
    assert sorted(path.name for path in (workplace / "demo").iterdir()) == ["abc", "abc-2", "abc-3"]
    with RunFolder.claim(workplace, "demo", "abc", fresh=True) as fourth:
        assert fourth.info["attempt"] == 4


def test_a_failed_attempt_is_taken_over_and_its_rest_can_be_deleted(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as first:
        first.metrics.append({"step": 1})
        first.update(wandb={"id": "w"})
        (first.checkpoints / "half").write_text("")
        first.finish("failed", "boom")
    with RunFolder.claim(workplace, "demo", "abc") as again:
        assert again.path == first.path
        again.start_over(step=0)
        assert sorted(path.name for path in again.path.iterdir()) == [".lock", "run.json"]
        info = again.info
        assert (info["status"], info["exit_reason"], info["started"]) == ("running", None, first.info["started"])
        assert info["wandb"] == {"id": "w"} and [entry["step"] for entry in info["resumed"]] == [0]
    assert read_run(again.path).metrics == []


def test_rewinding_cuts_what_came_after(workplace):
    """Three rows, of which two were there at the checkpoint; then a fourth that was written only in half."""
    row = {name: [0] for name in ("step", "group", "length")}
    row |= {name: [0.0] for name in ("policy_log_prob", "reference_log_prob", "reward")}
    row |= {"split": ["val"], "key": ["k"], "role": ["chosen"], "prompt": [None]}
    with RunFolder.claim(workplace, "demo", "abc") as first:
        for step in (1, 2):
            first.metrics.append({"step": step, "odd": float("nan")})
            first.timing.append({"step": step})
        first.append_predictions(row)
        first.training_pairs.add(row)
        position = first.position()
        first.metrics.append({"step": 3})
        first.append_predictions(row)
        first.training_pairs.add(row)
        first.finish("failed", "boom")
    assert position == {"metrics": 2, "timing": 2, "predictions": 1, "training_pairs": 1}
    # As a process leaves it that was killed: without hashes of its files.
    write_json(first.path / "run.json", {**first.info, "digests": None})
    with (first.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "tra')
    with RunFolder.claim(workplace, "demo", "abc") as again:
        again.rewind(position, step=2)
        again.metrics.append({"step": 3})
        again.append_predictions(row)
        assert again.position() == {"metrics": 3, "timing": 2, "predictions": 2, "training_pairs": 1}
    run = read_run(again.path)
    assert [row["step"] for row in run.metrics] == [1, 2, 3]
    assert [row["step"] for row in run.timing] == [1, 2]
    assert run.info["num_non_finite_metrics"] == 2
    assert pyarrow.parquet.read_table(again.path / "predictions.parquet").num_rows == 2
    assert pyarrow.parquet.read_table(again.path / "training_pairs.parquet").num_rows == 1


def test_a_row_that_was_changed_after_the_end_is_not_gone_on_with(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as first:
        first.metrics.append({"step": 1, "loss": 0.25})
        position = first.position()
        first.finish("interrupted", "SIGTERM")
    file = first.path / "metrics.jsonl"
    file.write_text(file.read_text().replace("0.25", "0.26"))
    with RunFolder.claim(workplace, "demo", "abc") as again:
        with pytest.raises(UserError, match=r"metrics\.jsonl is not what the run left"):
            again.rewind(position, step=1)
        again.let_go()


def test_a_record_that_is_shorter_than_its_checkpoint_is_refused(workplace):
    with pytest.raises(RuntimeError), RunFolder.claim(workplace, "demo", "abc"):
        raise RuntimeError("boom")
    again = RunFolder.claim(workplace, "demo", "abc")
    with pytest.raises(UserError, match=r"metrics\.jsonl has 0 whole rows, and the checkpoint was made after 5"):
        again.rewind({"metrics": 5, "timing": 5, "predictions": 0})
    again.let_go()


def test_what_a_killed_claim_leaves_is_cleared_away(workplace):
    old, young = workplace / "demo" / ".claim-old", workplace / "demo" / ".claim-young"
    for draft in (old, young):
        draft.mkdir(parents=True)
    os.utime(old, (0, 0))
    with RunFolder.claim(workplace, "demo", "abc"):
        assert not old.exists() and young.exists()


def test_ids_with_a_common_beginning_are_apart(workplace):
    with RunFolder.claim(workplace, "demo", "abc"):
        pass
    with RunFolder.claim(workplace, "demo", "ab") as other:
        assert other.path.name == "ab"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".sweeps", "/tmp"])
def test_a_name_is_a_plain_folder_name(workplace, name: str):
    with pytest.raises(UserError, match="names no folder"):
        RunFolder.claim(workplace, name, "abc")


def system_exit_after_ctrl_c() -> SystemExit:
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)
    except SystemExit as error:
        return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (RuntimeError(), "failed"),
        (SystemExit(1), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
        (SystemExit(138), "interrupted"),
        (system_exit_after_ctrl_c(), "interrupted"),
    ],
)
def test_status_after(error, status: str):
    assert status_after(error) == status


def test_lightnings_sigterm_is_an_interruption():
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    assert status_after(SIGTERMException()) == "interrupted"


def stop_after_a_row(folder: RunFolder) -> None:
    folder.metrics.append({"step": 1, "train/loss": 0.5})
    raise RuntimeError("boom")


def test_an_exception_leaves_status_and_reason_and_the_rows_so_far(workplace):
    folder = RunFolder.claim(workplace, "demo", "abc")
    with pytest.raises(RuntimeError), folder:
        stop_after_a_row(folder)
    info = json.loads((folder.path / "run.json").read_text())
    assert (info["status"], info["exit_reason"]) == ("failed", "RuntimeError: boom")
    assert (folder.path / "metrics.jsonl").read_text() == '{"step": 1, "train/loss": 0.5}\n'


def test_only_the_first_finish_counts(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as folder:
        folder.finish("failed", "not finite at step 3")
    assert folder.info["status"] == "failed"
    assert folder.info["exit_reason"] == "not finite at step 3"


def test_config_is_resolved_and_without_secrets(folder):
    config = {"loss": {"beta": 1e-5}, "text": "1e-5", "logger": {"api_key": "abc"}, "none": None}
    folder.write_config(config, ["loss.beta=1e-5", "logger.api_key=abc"])
    from omegaconf import OmegaConf

    back = OmegaConf.to_container(OmegaConf.load(folder.path / "config.yaml"))
    assert back == {"loss": {"beta": 1e-5}, "text": "1e-5", "logger": {"api_key": "<redacted>"}, "none": None}
    overrides = OmegaConf.to_container(OmegaConf.load(folder.path / "overrides.yaml"))
    assert overrides == ["loss.beta=1e-5", "logger.api_key=<redacted>"]


def test_an_unresolved_config_is_refused(folder):
    with pytest.raises(ValueError, match="interpolation"):
        folder.write_config({"a": 1, "b": "${a}"})


def test_updates_add_up_without_secrets(folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "very-secret-value")
    folder.update(sweep="s1", seeds={"order": 3})
    folder.update(note="with very-secret-value inside")
    info = json.loads((folder.path / "run.json").read_text())
    assert info["sweep"] == "s1"
    assert info["seeds"] == {"order": 3}
    assert info["note"] == "with <redacted> inside"
    assert info == folder.info


def test_data_report_stands_apart_and_in_the_record(folder):
    folder.write_data_report({"num_rows": 3, "dropped": {"too long": 1}})
    assert json.loads((folder.path / "data_report.json").read_text()) == folder.info["data_report"]
