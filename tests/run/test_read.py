"""Reading a run back from its folder."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.errors import UserError
from dpo_lab.run import RunFolder, read_run


def test_what_was_written_is_read(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as folder:
        folder.write_config({"seed": 0, "loss": {"beta": 0.1}})
        folder.metrics.append({"step": 1, "train/loss": 0.5})
        folder.metrics.append({"step": 2, "train/loss": math.nan, "val/loss": 0.25})
        folder.timing.append({"step": 1, "pairs_per_second": 8.0})
    run = read_run(folder.path)
    assert run.config == {"seed": 0, "loss": {"beta": 0.1}}
    assert run.status == "finished"
    assert run.info["num_non_finite_metrics"] == 1
    assert run.curve("val/loss") == ([2], [0.25])
    assert math.isnan(run.curve("train/loss")[1][1])
    assert run.timing == [{"step": 1, "pairs_per_second": 8.0}]


def test_a_run_is_read_while_it_runs(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as folder:
        run = read_run(folder.path)
        assert (run.status, run.config, run.metrics) == ("running", {}, [])


def test_a_row_cut_short_by_a_crash_does_not_count(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as folder:
        (folder.path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "tra')
        assert read_run(folder.path).metrics == [{"step": 1}]


def test_a_damaged_row_is_named(workplace):
    with RunFolder.claim(workplace, "demo", "abc") as folder:
        (folder.path / "metrics.jsonl").write_text('{"step": 1}\noops\n{"step": 3}\n')
        with pytest.raises(UserError, match=r"metrics\.jsonl line 2 is damaged"):
            read_run(folder.path)


def test_a_folder_of_something_else(workplace):
    with pytest.raises(UserError, match="not the folder of a run"):
        read_run(workplace)


def test_reading_needs_no_torch(root):
    code = "import sys, dpo_lab.run; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'wandb')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b"[1]"),
        ("run.json", b"{"),
        ("run.json", b"\xff"),
        ("run.json", b"[" * 100_000),
        ("config.yaml", b"a: [\n"),
        ("config.yaml", b"- 1\n"),
        ("config.yaml", b"\xff\xfe"),
        ("config.yaml", b"a: !!python/object/apply:os.system ['touch sprung']\n"),
        ("metrics.jsonl", b"[1]\n"),
        ("metrics.jsonl", b"\xff\n"),
        ("metrics.jsonl", b"7\n"),
        ("timing.jsonl", b"{\n"),
    ],
)
def test_a_damaged_file_of_a_folder_is_named(name: str, content: bytes, tmp_path: Path):
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.* is damaged"):
        read_run(tmp_path)
    assert not Path("sprung").exists()


def test_nothing_of_a_folder_from_elsewhere_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEPT_FROM_OTHERS", "secret")
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    (tmp_path / "config.yaml").write_text("a: ${oc.env:KEPT_FROM_OTHERS}\nb: ${oc.decode:1}\nc: ${oc.create:x}\n")
    config = read_run(tmp_path).config
    assert config == {"a": "${oc.env:KEPT_FROM_OTHERS}", "b": "${oc.decode:1}", "c": "${oc.create:x}"}
