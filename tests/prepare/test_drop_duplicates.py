from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.data.preparation import Preparation
from dpo_lab.data.report import DataReport
from dpo_lab.prepare.drop_duplicates import drop_duplicates
from tests.prepare.rows import on_every_row, pair

LONG = "The committee met on Tuesday in the old town hall and spoke for three hours about the new bridge."
NEAR = LONG.replace("Tuesday", "Monday")


def test_rows_by_hand():
    """The copy goes; the opposite judgement, another response and another score stay."""
    one, opposite, other = pair("p", source="a"), pair("p", "bad", "good"), pair("p", "fine")
    scored = replace(one, scores=(2.0, 1.0))
    kept, counts = on_every_row(drop_duplicates(), [one, opposite, replace(one, source="b"), other, scored])
    assert kept == [one, opposite, other, scored]
    assert (counts["read"], counts["dropped"], counts["kept"]) == (5, 1, 4)
    assert counts["reasons"] == {"repeated_row": 1}


def test_prompts_by_hand():
    rows = [pair("p"), pair("p", "other"), pair("q"), pair([{"role": "user", "content": "p"}])]
    kept, counts = on_every_row(drop_duplicates(of="prompts"), rows)
    assert kept == [rows[0], rows[2], rows[3]] and counts["reasons"] == {"repeated_prompt": 1}


def test_near_rows_are_told_from_exact_ones_and_from_opposites():
    """Responses that are almost the same as each other are compared exactly, or the opposite would look the same."""
    rows = [pair(LONG), pair(NEAR), pair(LONG), pair("q", LONG, NEAR), pair("q", NEAR, LONG)]
    kept, counts = on_every_row(drop_duplicates(near=True), rows)
    assert kept == [rows[0], rows[3], rows[4]]
    assert counts["reasons"] == {"nearly_repeated_row": 1, "repeated_row": 1}
    assert on_every_row(drop_duplicates(), rows)[0] == [*rows[:2], *rows[3:]]
    kept, counts = on_every_row(drop_duplicates(of="prompts", near=True), rows)
    assert kept == [rows[0], rows[3]]
    assert counts["reasons"] == {"nearly_repeated_prompt": 1, "repeated_prompt": 2}


def test_what_is_held_out_stays_and_its_copy_in_training_goes():
    report = DataReport()
    sides = [[pair("p"), pair("q"), pair("r")], [pair("q"), pair("s")], [pair("s"), pair("t")]]
    split = Preparation({"step": drop_duplicates()}).before_split(sides, "texts", report)
    assert split == ([pair("p"), pair("r")], [pair("q")], [pair("s"), pair("t")])
    assert report.counts == {"repeated_row": 2}


@given(st.lists(st.sampled_from([pair(LONG), pair(NEAR), pair("p"), pair("p", "other"), pair("q")]), min_size=1))
@settings(max_examples=30)
def test_dropping_twice_is_dropping_once(rows):
    every: list[dict[str, Any]] = [{}, {"of": "prompts"}, {"near": True}, {"of": "prompts", "near": True}]
    for knobs in every:
        once, counts = on_every_row(drop_duplicates(**knobs), rows)
        assert len(once) == len(rows) - sum(counts["reasons"].values())
        assert on_every_row(drop_duplicates(**knobs), once)[0] == once
