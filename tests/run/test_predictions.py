"""predictions.parquet."""

import pyarrow.parquet as pq
import pytest

from dpo_lab.run.predictions import SCHEMA, Predictions


def evaluation(step: int, num_rows: int = 2) -> dict:
    return {
        "step": [step] * num_rows,
        "split": ["val"] * num_rows,
        "key": [f"{row:032x}" for row in range(num_rows)],
        "group": [0] * num_rows,
        "role": ["chosen", "rejected"][:num_rows],
        "policy_log_prob": [-1.5] * num_rows,
        "reference_log_prob": [None] * num_rows,
        "length": [3] * num_rows,
        "reward": [0.25] * num_rows,
        "prompt": ["f" * 32] * num_rows,
    }


def test_all_evaluations_so_far_are_in_the_file(workplace):
    predictions = Predictions(workplace / "predictions.parquet")
    predictions.append(evaluation(0))
    predictions.append(evaluation(5))
    table = pq.read_table(predictions.path)
    assert table.schema.equals(SCHEMA)
    assert table["step"].to_pylist() == [0, 0, 5, 5]
    assert table["reference_log_prob"].to_pylist() == [None] * 4
    assert [path.name for path in workplace.iterdir()] == ["predictions.parquet"]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("step", [1], "differ in length"),
        ("length", ["long", "short"], "length"),
        ("policy_log_prob", [None, 1.0], "policy_log_prob holds null"),
        ("colour", [1, 2], "missing or unknown: colour"),
    ],
)
def test_a_wrong_table_is_refused_and_the_old_file_stays(workplace, column: str, values: list, message: str):
    predictions = Predictions(workplace / "predictions.parquet")
    predictions.append(evaluation(0))
    with pytest.raises(ValueError, match=message):
        predictions.append({**evaluation(1), column: values})
    assert pq.read_table(predictions.path)["step"].to_pylist() == [0, 0]
