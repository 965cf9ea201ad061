"""SQuAD's measures by hand."""

import pytest

from dpo_lab.answers import exact_match, token_f1


@pytest.mark.parametrize(
    ("answer", "right", "exact", "f1"),
    [
        ("the Broncos", ["Broncos."], 1, 1),
        ("Denver Broncos", ["Broncos", "the Denver Broncos"], 1, 1),
        ("Denver", ["Denver Broncos"], 0, 2 / 3),  # precision 1, recall 1/2
        ("Broncos Broncos", ["Broncos"], 0, 2 / 3),  # each word as often as it stands there
        ("308", ["309"], 0, 0),
        ("the", ["a"], 1, 1),  # articles alone are nothing, and nothing is nothing
        ("the", ["x"], 0, 0),
        ("x", [], 0, 0),
    ],
)
def test_by_hand(answer: str, right: list[str], exact: float, f1: float):
    assert exact_match(answer, right) == exact
    assert token_f1(answer, right) == pytest.approx(f1)
