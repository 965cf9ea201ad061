"""Numbers of two runs compared by hand: which differ, which of them decide, and what is said."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from dpo_lab.reproduction.gaps import gaps_of_predictions, gaps_of_rows
from dpo_lab.reproduction.verdict import Verdict, judge
from dpo_lab.run.predictions import SCHEMA

ROWS = [
    {"step": 0, "val/loss": 0.7, "samples/kl": 0.0},
    {"step": 1, "train/loss": 2.0, "train/rewards/accuracies": 0.5},
    {"step": 2, "train/loss": 1.0, "train/rewards/accuracies": 0.5, "samples/kl": 3.0},
]


def changed(step: int, **values: float) -> list[dict[str, float]]:
    """`ROWS` with other values at `step`; underscores stand for slashes."""
    named = {name.replace("_", "/"): value for name, value in values.items()}
    return [{**row, **named} if row["step"] == step else row for row in ROWS]


def verdict(now: list[dict[str, float]], **knobs: Any) -> Verdict:
    return judge(Path("then"), Path("now"), ROWS, now, **{"last_step": 2, "is_whole": False, **knobs})


def test_the_same_rows_are_bit_identical():
    found = verdict(ROWS)
    assert (found.kind, found.exit_code, found.line) == (
        "bit-identical",
        0,
        "bit-identical: 3 rows of metrics.jsonl",
    )


def test_a_small_difference_is_measured_by_its_curve():
    """0.001 at step 2, where the curve's largest value is 2: a share of 0.0005, which 0.001 allows and 0.0001 not."""
    found = verdict(changed(2, train_loss=1.001))
    assert (found.kind, found.exit_code) == ("within tolerance", 3)
    assert found.gap is not None and found.gap.share == pytest.approx(0.0005)
    assert "the largest difference is 5.0e-04 of its curve, train/loss at step 2: 1 then, 1.001 now" in found.line
    assert verdict(changed(2, train_loss=1.001), tolerance=1e-4).kind == "diverged"


def test_the_first_step_beyond_tolerance_is_named_with_its_worst_curve():
    now = changed(1, train_loss=2.0001)
    now[2] = {**now[2], "train/loss": 1.5, "samples/kl": 9.0}
    found = verdict(now)
    assert found.exit_code == 4 and found.line == "diverged at step 2 in train/loss: 1 then, 1.5 now"
    assert found.first is not None and (found.first.step, found.first.name) == (1, "train/loss")


def test_curves_that_jump_are_excused_after_rounding_and_only_then():
    """A pair of two falls on the other side: after a rounding of the loss it is told; by itself it is a divergence."""
    alone = verdict(changed(1, train_rewards_accuracies=1.0))
    assert (alone.kind, alone.gap and alone.gap.name) == ("diverged", "train/rewards/accuracies")
    after = verdict(changed(1, train_loss=2.0 + 1e-9, train_rewards_accuracies=1.0))
    assert after.kind == "within tolerance"
    assert any("follows from rounding" in note and "0.5 then, 1 now" in note for note in after.notes)


def test_missing_numbers_differ_and_new_curves_do_not():
    assert verdict(ROWS[:2]).line == "diverged at step 2 in train/loss: 1 then, none now"
    assert verdict(ROWS[:2], last_step=1).kind == "bit-identical"
    found = verdict(changed(1, test_loss=0.5))
    assert found.kind == "bit-identical" and found.notes == ("recorded now and not then, so not compared: test/loss",)


def test_what_was_no_number_is_the_same_where_it_is_none_again():
    rows = [{"step": 1, "train/loss": math.nan}]
    assert gaps_of_rows(rows, rows, 1).gaps == []
    (gap,) = gaps_of_rows(rows, [{"step": 1, "train/loss": 1.0}], 1).gaps
    assert math.isnan(gap.share)


def write_predictions(folder: Path, log_prob: float, key: str = "k") -> None:
    row = {
        "step": 1,
        "split": "val",
        "key": key,
        "group": 0,
        "role": "chosen",
        "policy_log_prob": log_prob,
        "length": 3,
    }
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), folder / "predictions.parquet")


def test_predictions_by_their_responses_and_numbers():
    """Log-probs -8 and -8.004: 0.004 of 8 is a share of 0.0005."""
    then, now = Path("then"), Path("now")
    write_predictions(then, -8.0)
    write_predictions(now, -8.004)
    (gap,) = gaps_of_predictions(then, now, 1).gaps
    assert gap.name == "predictions/policy_log_prob" and gap.share == pytest.approx(0.0005)
    assert gaps_of_predictions(then, now, 0) == (0, [])
    write_predictions(now, -8.0, key="another")
    assert [gap.name for gap in gaps_of_predictions(then, now, 1).gaps] == ["predictions/key"]
    (now / "predictions.parquet").unlink()
    assert len(gaps_of_predictions(then, now, 1).gaps) == 1


def test_weights_and_samples_decide_where_all_else_is_the_same():
    for name, weight, text in (("then", 1.0, "a"), ("now", 1.5, "b")):
        Path(name, "model").mkdir(parents=True)
        save_file({"w": torch.tensor([0.0, weight], dtype=torch.bfloat16)}, f"{name}/model/model.safetensors")
        Path(name, "samples.jsonl").write_text(f'{{"step": 0, "response": "{text}"}}\n')
    found = verdict(ROWS, is_whole=True)
    assert found.compared == "3 rows of metrics.jsonl, 1 samples, 1 tensors"
    assert found.line == "diverged at step 2 in weights/w: 1 then, 1.5 now"
    assert verdict(ROWS).kind == "bit-identical"
    after = verdict(changed(1, train_loss=2.0 + 1e-9), is_whole=True)
    assert after.kind == "within tolerance" and "1 of 1 samples differ" in after.notes
