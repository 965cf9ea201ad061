"""Runs as rows."""

from pathlib import Path

import pandas as pd
import pytest

from dpo_lab.report.rows import curve_rows, pair_rows, run_rows
from dpo_lab.report.study import read_study
from tests.report.folders import rows, write_run


@pytest.fixture
def runs(workplace: Path) -> Path:
    """Two losses, two pairs each; one run that failed."""
    for loss in ("sigmoid", "ipo"):
        pairs = {"chosen": [1.0, 0.0], "rejected": [0.0, 1.0], "chosen_length": [9, 5], "prompts": [0, 0]}
        write_run(workplace / "runs", loss=loss, metrics=rows(0.6), pairs=pairs)
    write_run(workplace / "runs", seed=9, id="broken", info={"status": "failed", "exit_reason": "boom"})
    return workplace / "runs"


def test_a_row_a_run(runs: Path):
    table = pd.DataFrame(run_rows([str(runs)])).set_index("id")
    assert table.loc["ipo-0.1-0", ["loss", "loss.beta", "seed", "step", "status"]].tolist() == [
        "ipo",
        0.1,
        0,
        2,
        "finished",
    ]
    assert table.loc["ipo-0.1-0", "val/rewards/accuracies"] == 0.6
    assert table.loc["broken", ["status", "reason"]].tolist() == ["failed", "boom"]


def test_a_row_a_value_and_a_row_a_pair(runs: Path):
    study = read_study([runs])
    curves = curve_rows(study, ["val/rewards/accuracies", "nothing"])
    assert [(row["loss"], row["step"], row["value"]) for row in curves] == [
        ("ipo", 0, 0.5),
        ("ipo", 2, 0.6),
        ("sigmoid", 0, 0.5),
        ("sigmoid", 2, 0.6),
    ]
    pairs = pd.DataFrame(pair_rows(study))
    assert (len(pairs), len(set(pairs["pair"])), len(set(pairs["prompt"]))) == (4, 2, 1)
    right = pairs.query("correct == 1")
    assert right["chosen_length"].tolist() == [9, 9] and right["chosen_shift"].tolist() == [1.0, 1.0]
