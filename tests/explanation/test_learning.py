"""The order of learning, by hand."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_lab.errors import UserError
from dpo_lab.explanation.learning import auroc, read_histories
from dpo_lab.run.predictions import SCHEMA

MARGINS = {
    "a": (9.0, 1.0, 2.0, 3.0),
    "b": (0.0, 1.0, -1.0, 0.5),
    "c": (0.0, -1.0, -2.0, -3.0),
    "d": (0.0, 2.0, 1.0, -12.0),
}


def write(file: Path, *, has_reward: bool = True) -> None:
    """Four pairs at steps 0, 2, 4, 6, and a group of one chosen response alone; rejected responses score 0."""
    rows = []
    for place, step in enumerate((0, 2, 4, 6)):
        for group, (name, margins) in enumerate(MARGINS.items()):
            for role, value in (("chosen", margins[place]), ("rejected", 0.0)):
                row = {"step": step, "split": "train", "key": f"{name}-{role}", "group": group, "role": role}
                row |= {"policy_log_prob": value - 5, "reference_log_prob": -5.0, "length": 3}
                rows.append(row | {"reward": value / 10 if has_reward else None})
        rows.append({**rows[-2], "group": 9, "key": "alone"})
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)


def test_by_hand(workplace: Path):
    """Step 0 does not count. a: right at all of 2, 4, 6, mean 0.2, standard deviation 0.1 sqrt(2/3). b: right, wrong,
    right, so forgotten once and right for good from step 6. c: never. d: right until it was forgotten at the last."""
    write(workplace / "pairs.parquet")
    found = read_histories(workplace / "pairs.parquet", "train")
    pairs = {pair.keys[0][0]: pair for pair in found.pairs}
    assert [pair.keys[0][0] for pair in found.pairs] == ["d", "c", "b", "a"]
    assert [pairs[name].outcome for name in "abcd"] == ["learnt", "learnt", "never right", "forgotten"]
    assert [pairs[name].learnt_at for name in "abcd"] == [2, 6, None, None]
    assert [pairs[name].num_forgotten for name in "abcd"] == [0, 1, 0, 1]
    assert pairs["a"].mean == pytest.approx(0.2) and pairs["a"].spread == pytest.approx(0.1 * (2 / 3) ** 0.5)
    assert pairs["b"].share_right == pytest.approx(2 / 3) and pairs["a"].steps == (2, 4, 6)
    assert found.num_left_out == 3 and found.measure.startswith("reward")


def test_without_a_reward_it_is_the_log_ratio(workplace: Path):
    write(workplace / "pairs.parquet", has_reward=False)
    found = read_histories(workplace / "pairs.parquet", "train")
    assert found.pairs[-1].mean == pytest.approx(2.0) and found.measure.endswith("nats")


def test_what_cannot_be_read_is_told(workplace: Path):
    write(workplace / "pairs.parquet")
    with pytest.raises(UserError, match="holds no pair of val that was scored after an update"):
        read_histories(workplace / "pairs.parquet", "val")
    (workplace / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"bad\.parquet is damaged"):
        read_histories(workplace / "bad.parquet", "val")


def test_auroc_by_hand():
    """Of 2 x 2 comparisons: 3 > 1, 3 > 2, 1 = 1 (half), 1 < 2."""
    assert auroc([3.0, 1.0, 1.0, 2.0], [True, True, False, False]) == pytest.approx(2.5 / 4)
    assert auroc([1.0], [True]) is None
