from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.errors import RowError
from dpo_lab.data.rank import PairsRule
from dpo_lab.data.read_row import read_row
from dpo_lab.data.row import Row
from dpo_lab.types import Example, Message

SYSTEM: Message = {"role": "system", "content": "Be kind."}
USER: Message = {"role": "user", "content": "Hi"}
ONE: Message = {"role": "assistant", "content": "one"}
TWO: Message = {"role": "assistant", "content": "two"}
TEXT = {"prompt": "Hi", "chosen": "one", "rejected": "two"}
SCORED = {"prompt": "Hi", "responses": ["a", "b", "c"], "scores": [1, 3, 2]}


def read(row: dict[str, Any], columns: dict[str, str] | None = None, pairs: PairsRule = "all") -> Example:
    return read_row(Row(row, columns or {}), pairs, "here")


def test_text():
    assert read({**TEXT, "id": 7}) == Example("Hi", ("one", "two"), ((0, 1),), source="here")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": [ONE], "rejected": [TWO]},
        {"prompt": [USER], "chosen": "one", "rejected": "two"},
        {"prompt": "Hi", "chosen": [ONE], "rejected": [TWO]},
        {"prompt": "Hi", "chosen": [USER, ONE], "rejected": [USER, TWO]},
        {"prompt": [USER], "chosen": [USER, ONE], "rejected": [TWO]},
        {"chosen": [USER, ONE], "rejected": [USER, TWO]},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "one"},
            "rejected": TWO,
        },
    ],
)
def test_every_form_of_a_chat_gives_the_same_example(row: dict[str, Any]):
    assert read(row) == Example([USER], ([ONE], [TWO]), ((0, 1),), source="here")


def test_system_message_before_a_prompt_given_as_text():
    example = read({"prompt": "Hi", "chosen": [SYSTEM, USER, ONE], "rejected": [SYSTEM, USER, TWO]})
    assert example.prompt == [SYSTEM, USER]


def test_conversation_of_which_one_side_begins_the_other():
    example = read({"chosen": [USER, ONE], "rejected": [USER, ONE, TWO]})
    assert (example.prompt, example.responses) == ([USER], ([ONE], [ONE, TWO]))


def test_transcripts():
    prompt = "\n\nHuman: Hi\n\nAssistant:"
    example = read({"chosen": prompt + " a", "rejected": prompt + " ab"})
    assert (example.prompt, example.responses) == (prompt, (" a", " ab"))


def test_columns_are_mapped_and_win_over_a_column_of_our_name():
    row = {"question": "Why?", "prompt": "unused", "good": "a", "rejected": "b"}
    example = read(row, {"prompt": "question", "chosen": "good"})
    assert (example.prompt, example.responses) == ("Why?", ("a", "b"))


def test_scored_list():
    example = read(SCORED)
    assert example.pairs == ((1, 2), (1, 0), (2, 0))
    assert example.scores == (1.0, 3.0, 2.0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "chosen": "a"}, "missing_column"),
        ({"prompt": "Hi"}, "missing_column"),
        ({**TEXT, "prompt": None}, "null_value"),
        ({**TEXT, "rejected": 4}, "not_text"),
        ({**TEXT, "chosen": " \n"}, "empty_response"),
        ({**TEXT, "prompt": ""}, "empty_prompt"),
        ({**TEXT, "prompt": []}, "empty_prompt"),
        ({**TEXT, "chosen": "two"}, "chosen_equals_rejected"),
        ({**TEXT, "prompt": [USER, ONE]}, "prompt_ends_on_assistant"),
        ({"chosen": "a", "rejected": "b"}, "no_prompt"),
        ({"chosen": "a", "rejected": [USER, ONE]}, "mixed_types"),
        ({"chosen": [USER, ONE, USER, TWO], "rejected": [USER, TWO, USER, TWO]}, "prompts_differ"),
        ({"prompt": "Ho", "chosen": [USER, ONE], "rejected": [USER, TWO]}, "prompts_differ"),
        ({"prompt": "Hi", "chosen": [SYSTEM, USER, ONE], "rejected": [USER, TWO]}, "prompts_differ"),
        ({"prompt": [USER], "chosen": [ONE, USER], "rejected": [TWO]}, "ends_on_human_turn"),
        ({"chosen": [ONE], "rejected": [TWO]}, "empty_prompt"),
        ({**SCORED, "responses": "a"}, "not_text"),
        ({**SCORED, "scores": [1, 2]}, "bad_scores"),
        ({**SCORED, "scores": [1, 2, True]}, "bad_scores"),
        ({**SCORED, "scores": [1, 2, float("nan")]}, "bad_scores"),
        ({**SCORED, "scores": None}, "bad_scores"),
        ({**SCORED, "scores": [2, 2, 2]}, "no_pair"),
        ({**SCORED, "responses": ["a", "a", "b"]}, "chosen_equals_rejected"),
        ({"responses": ["a", "b"], "scores": [1, 2]}, "missing_column"),
    ],
)
def test_what_is_refused(row: dict[str, Any], reason: str):
    with pytest.raises(RowError) as caught:
        read(row)
    assert caught.value.reason == reason


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_text_is_never_changed(prompt: str, chosen: str, rejected: str):
    try:
        example = read({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    except RowError:
        return
    assert (example.prompt, *example.responses) == (prompt, chosen, rejected)
