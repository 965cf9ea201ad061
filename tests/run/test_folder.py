"""A run folder: claimed once, written whole, left with a true status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.errors import UserError
from dpo_lab.run import AlreadyFinished, FolderClaimed, RunFolder, status_after

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
    # Killed, it left no status: the folder stays as it was and the next attempt stands beside it.
    with RunFolder.claim(workplace, "demo", "abc") as next_attempt:
        assert next_attempt.path.name == "abc-2"
        assert next_attempt.earlier == (held,)
    assert json.loads((held / "run.json").read_text())["status"] == "running"


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


def test_a_finished_later_attempt_counts_though_the_first_failed(workplace):
    with pytest.raises(RuntimeError), RunFolder.claim(workplace, "demo", "abc"):
        raise RuntimeError("boom")
    with RunFolder.claim(workplace, "demo", "abc") as second:
        pass
    with pytest.raises(AlreadyFinished) as news:
        RunFolder.claim(workplace, "demo", "abc")
    assert news.value.path == second.path


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
