"""Reading a run back from its folder."""

import math
import subprocess
import sys

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
