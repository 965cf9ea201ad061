"""Conditions on runs and cells."""

import pytest

from dpo_lab.errors import UserError
from dpo_lab.report.select import matches, parse_conditions, unknown_keys

RUN = {"loss": "ipo", "loss.beta": 0.1, "status": "finished", "val/loss": 0.5, "fresh": False, "path": None}


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("loss=ipo", True),
        ("loss=ipo status=failed", False),
        ("loss.beta=0.10", True),
        ("loss.beta>0.1", False),
        ("loss.beta>=0.1 val/loss<1", True),
        ("loss!=ipo", False),
        ("nothing!=1", True),
        ("nothing>1", False),
        ("fresh=false path=null", True),
        ("status~fin", True),
        ("status>1", False),
    ],
)
def test_conditions(text: str, is_right: bool):
    assert matches(parse_conditions(text), RUN) is is_right


@pytest.mark.parametrize("text", ["ipo", "=1", "loss.beta>much"])
def test_what_is_no_condition(text: str):
    with pytest.raises(UserError, match=r"is no condition|is no number"):
        parse_conditions(text)


def test_unknown_keys_are_told_with_the_nearest():
    assert unknown_keys(parse_conditions("loss.bata=1"), RUN) == ["loss.bata: no run has it; did you mean loss.beta?"]
