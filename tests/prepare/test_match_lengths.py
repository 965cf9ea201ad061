import math
import random
from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.audit.judged import judged_pairs
from dpo_lab.audit.surface import compare_pairs
from dpo_lab.data.errors import DataError
from dpo_lab.data.preparation import Preparation
from dpo_lab.prepare.match_lengths import match_lengths
from dpo_lab.types import Example
from tests.prepare.rows import on_training, pair


def of_lengths(chosen: int, rejected: int, number: int = 0) -> Example:
    return pair(f"p{number}", "a" * chosen, "b" * rejected, f"row {number}")


def test_by_hand():
    """One bucket: the longer one is chosen in 3, the shorter one in 1, so 1 of each stays; the equal ones stay."""
    lengths = [(9, 3), (8, 2), (2, 5), (4, 4), (7, 1)]
    rows = [of_lengths(a, b, number) for number, (a, b) in enumerate(lengths)]
    kept, counts = on_training(match_lengths(num_buckets=1), rows)
    assert rows[2] in kept and rows[3] in kept and len(kept) == 3
    assert counts["details"] == {
        "longer one chosen before": 3,
        "shorter one chosen before": 1,
        "of each now": 1,
        "equally long": 1,
    }
    assert counts["reasons"] == {"unmatched_length": 2} and counts["kept"] == counts["read"] - counts["dropped"] == 3


def test_four_in_five_by_hand():
    """400 pairs, the longer one chosen in 320 and the shorter one in 80, ten differences of length each alike in both
    directions (32 and 8): each of ten buckets keeps 8 and 8, so 160 stay and the mean difference is 0."""
    rows = [
        of_lengths(*((100 + step, 100) if number % 5 else (100, 100 + step)), 400 * step + number)
        for step in range(10, 110, 10)
        for number in range(40)
    ]
    random.Random(0).shuffle(rows)
    kept, counts = on_training(match_lengths(), rows)
    differences = Counter(len(row.responses[0]) - len(row.responses[1]) for row in kept)
    assert differences == {sign * step: 8 for step in range(10, 110, 10) for sign in (1, -1)}
    assert len(kept) == 160 and counts["reasons"] == {"unmatched_length": 240}


def test_where_nothing_can_be_matched_it_is_said_why():
    """All in one direction; and 3 against 1 in four buckets of one pair each, where one bucket would leave 2."""
    rows = [of_lengths(9, 1, 0), of_lengths(8, 2, 1), of_lengths(7, 3, 2)]
    with pytest.raises(
        DataError,
        match=r"none of the 3 rows of training: in all of them the longer response is chosen.*~prepare.match_lengths",
    ):
        on_training(match_lengths(), rows)
    rows.append(of_lengths(4, 6, 3))
    said = "longer response is chosen in 3 and the shorter one in 1, .*num_buckets=1 leaves 2"
    with pytest.raises(DataError, match=said):
        on_training(match_lengths(num_buckets=4), rows)
    assert len(on_training(match_lengths(num_buckets=1), rows)[0]) == 2


def test_words_are_counted_where_they_are_asked_for():
    rows = [pair("p", "one two three", "a-rather-long-word"), pair("q", "a", "b c")]
    assert on_training(match_lengths(unit="words", num_buckets=1), rows)[1]["details"]["longer one chosen before"] == 1
    assert (
        on_training(match_lengths(num_buckets=1), [rows[0], of_lengths(9, 2)])[1]["details"]["longer one chosen before"]
        == 1
    )


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60), st.integers(1, 12))
@settings(max_examples=40)
def test_in_every_bucket_both_directions_stand_equally_often(lengths, num_buckets):
    """So the counts agree in all, and the sum of the log-ratios is at most that of one bucket's width a pair."""
    rows = [of_lengths(a, b, number) for number, (a, b) in enumerate(lengths)] + [of_lengths(5, 5, -1)]
    kept, counts = on_training(match_lengths(num_buckets=num_buckets), rows)
    signs = [len(row.responses[0]) - len(row.responses[1]) for row in kept]
    assert sum(sign > 0 for sign in signs) == sum(sign < 0 for sign in signs) == counts["details"]["of each now"]
    assert [row for row in rows if row in kept] == kept
    again, _ = on_training(match_lengths(num_buckets=1), kept)
    assert again == kept
    assert on_training(match_lengths(num_buckets=num_buckets), rows)[0] == kept


def test_length_alone_then_predicts_nothing():
    """Pairs whose longer response wins in four of five, and by more the longer it is."""
    generator = random.Random(0)
    rows = []
    for number in range(2000):
        short, ratio = generator.randint(20, 200), math.exp(abs(generator.gauss(0, 0.8)))
        lengths = [round(short * ratio), short]
        wins = generator.random() < 0.5 + 0.45 * min(1.0, math.log(ratio))
        rows.append(of_lengths(max(lengths) if wins else short, short if wins else max(lengths), number))
    before, after = (
        cast(Any, compare_pairs(list(judged_pairs(some))))["length_only"]
        for some in (rows, on_training(match_lengths(num_buckets=20), rows)[0])
    )
    assert before["low"] > 0.65
    assert after["low"] < 0.5 < after["high"] + 0.02 and after["estimate"] < 0.53


def test_what_has_no_one_pair_of_texts_is_refused():
    three = Example("p", ("a", "b", "c"), ((0, 1), (0, 2)), source="a.jsonl row 7")
    for row in (three, Example("p", ("a",), labels=(1,), source="a.jsonl row 7")):
        with pytest.raises(
            DataError, match=r"a.jsonl row 7 is no row of one pair .responses: \d.*~prepare.match_lengths"
        ):
            on_training(match_lengths(), [row])
    steps = Preparation({"match_lengths": match_lengths()})
    with pytest.raises(DataError, match="names of classes"):
        steps.check("classes")
    with pytest.raises(DataError, match="pieces of a passage"):
        steps.check("spans")
    steps.check("texts")
