"""Rows that say more than chosen and rejected: orders, labels, scores, probabilities."""

from typing import Any

import pytest

from dpo_lab.data.errors import RowError
from dpo_lab.data.rank import PairsRule
from dpo_lab.data.read_row import read_row
from dpo_lab.data.row import Row
from dpo_lab.types import Example, Message

USER: Message = {"role": "user", "content": "Hi"}
ONE: Message = {"role": "assistant", "content": "one"}
TWO: Message = {"role": "assistant", "content": "two"}
TEXT = {"prompt": "Hi", "chosen": "one", "rejected": "two"}
RANKED = {"prompt": "Hi", "ranked": ["a", "b", "c"]}
LABELLED = {"prompt": "Hi", "response": "one", "label": True}


def read(row: dict[str, Any], columns: dict[str, str] | None = None, pairs: PairsRule = "all") -> Example:
    return read_row(Row(row, columns or {}), pairs, "here")


def test_ranked_is_a_complete_order_without_scores():
    example = Example("Hi", ("a", "b", "c"), ((0, 1), (0, 2), (1, 2)), None, "here", ranking=(0, 1, 2))
    assert read(RANKED) == example
    assert read(RANKED, pairs="adjacent").pairs == ((0, 1), (1, 2))
    assert read({"instruction": "Hi", "output": ["a", "b"]}, {"prompt": "instruction", "ranked": "output"}).pairs == (
        (0, 1),
    )


def test_ranked_chats():
    example = read({"prompt": [USER], "ranked": [[ONE], TWO]})
    assert (example.prompt, example.responses, example.ranking) == ([USER], ([ONE], [TWO]), (0, 1))


def test_response_that_is_ranked_twice_keeps_its_better_place():
    """a b a c b: a b c."""
    reasons: list[str] = []
    example = read_row(Row({**RANKED, "ranked": ["a", "b", "a", "c", "b"]}, {}), "all", "here", reasons.append)
    assert (example.responses, example.ranking) == (("a", "b", "c"), (0, 1, 2))
    assert reasons == ["repeated_response"] * 2


def test_chosen_against_several_rejected():
    """Only the best is known, so the pairs are of the best, whatever the rule."""
    example = read({**TEXT, "rejected": ["two", "three", "two"]}, pairs="adjacent")
    pairs = ((0, 1), (0, 2))
    assert example == Example("Hi", ("one", "two", "three"), pairs, None, "here", ranking=(0, 1, 2), is_best_alone=True)


def test_one_rejected_in_a_list_is_a_pair():
    assert read({**TEXT, "rejected": ["two"]}) == read(TEXT)


def test_several_rejected_conversations_and_transcripts():
    example = read({"chosen": [USER, ONE], "rejected": [[USER, TWO], [USER, ONE, TWO]]})
    assert (example.prompt, example.responses) == ([USER], ([ONE], [TWO], [ONE, TWO]))
    start = "\n\nHuman: Hi\n\nAssistant:"
    example = read({"chosen": start + " a", "rejected": [start + " b", start + " c"]})
    assert (example.prompt, example.responses) == (start, (" a", " b", " c"))


@pytest.mark.parametrize(("value", "label"), [(True, 1), (False, 0), (1, 1), (0, 0), (1.0, 1)])
def test_single_label(value: Any, label: int):
    assert read({**LABELLED, "label": value}) == Example("Hi", ("one",), source="here", labels=(label,))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ONE, USER, TWO]},
        {"conversations": [USER, ONE, USER, {"from": "gpt", "value": "two"}]},
        {"prompt": [USER, ONE, USER], "response": "two"},
        {"prompt": [USER, ONE, USER], "response": [TWO]},
        {"prompt": None, "response": None, "messages": [USER, ONE, USER, TWO]},
    ],
)
def test_every_form_of_a_labelled_chat_gives_the_same_example(row: dict[str, Any]):
    assert read({**row, "label": False}) == Example([USER, ONE, USER], ([TWO],), source="here", labels=(0,))


def test_labelled_transcript():
    example = read({"messages": "\n\nHuman: Hi\n\nAssistant: a", "label": 1})
    assert (example.prompt, example.responses, example.labels) == ("\n\nHuman: Hi\n\nAssistant:", (" a",), (1,))


def test_scores_of_a_pair():
    example = read({**TEXT, "chosen_score": 2, "rejected_score": -0.5})
    assert (example.scores, example.ranking, example.pairs) == ((2.0, -0.5), (0, 1), ((0, 1),))


def test_scores_that_contradict_the_pair_do_not_turn_it():
    example = read({**TEXT, "chosen_score": 1, "rejected_score": 2})
    assert (example.scores, example.ranking, example.pairs) == ((1.0, 2.0), (0, 1), ((0, 1),))


def test_probability_of_a_pair():
    assert read({**TEXT, "probability": 0.75}).win_probabilities == (0.75,)
    assert read({**TEXT, "probability": 0}).win_probabilities == (0.0,)


def test_numbers_of_several_rejected_follow_those_that_are_kept():
    """two stands there twice: its second score and probability go with it."""
    row = {
        **TEXT,
        "rejected": ["two", "two", "three"],
        "chosen_score": 5,
        "rejected_score": [4, 3, 2],
        "probability": [0.9, 0.8, 0.7],
    }
    example = read(row)
    assert (example.scores, example.win_probabilities) == ((5.0, 4.0, 2.0), (0.9, 0.7))


def test_nulls_of_another_schema_are_no_values():
    """As Parquet gives them, where a file holds rows of several schemas."""
    nulls = dict.fromkeys(["chosen", "rejected", "ranked", "responses", "label", "chosen_score", "probability"])
    assert read({**nulls, **TEXT}) == read(TEXT)
    assert read({**nulls, **RANKED}) == read(RANKED)
    assert read({**nulls, **LABELLED}) == read(LABELLED)


def test_the_row_remembers_what_was_read():
    row = Row({"question": "Hi", "chosen": "a", "rejected": "b", "prompt": "x", "label": 1}, {"prompt": "question"})
    read_row(row, "all", "here")
    assert row.read == {"question", "chosen", "rejected"}


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        ({**RANKED, "ranked": "a"}, "not_text", "str where a list of responses belongs"),
        ({**RANKED, "ranked": ["a", 3]}, "not_text", "int where text belongs"),
        ({**RANKED, "ranked": ["a", " "]}, "empty_response", "the response is empty"),
        ({**RANKED, "ranked": ["a"]}, "one_response", "no two different responses"),
        ({**RANKED, "ranked": ["a", "a"]}, "one_response", "no two different responses"),
        ({"ranked": ["a", "b"]}, "missing_column", "no column 'prompt', which these responses need"),
        ({**LABELLED, "label": "good"}, "bad_label", "'good' is none of true, false, 1, 0"),
        ({**LABELLED, "label": "1.0"}, "bad_label", "'1.0' is none of"),
        ({**LABELLED, "label": -1}, "bad_label", "-1 is none of true, false, 1, 0"),
        ({**LABELLED, "label": 0.5}, "bad_label", "0.5 is none of"),
        ({**LABELLED, "label": None}, "bad_label", "None is none of"),
        ({**LABELLED, "response": ""}, "empty_response", "the response is empty"),
        ({"prompt": "Hi", "label": 1}, "missing_column", "no column 'response'"),
        ({"response": "a", "label": 1}, "missing_column", "no column 'prompt'"),
        ({"messages": [USER], "label": 1}, "ends_on_human_turn", "not the assistant's"),
        ({**TEXT, "rejected": ["two", "one"]}, "chosen_equals_rejected", "the same"),
        ({**TEXT, "rejected": ["two", None]}, "null_value", "null"),
        ({**TEXT, "chosen_score": 1}, "missing_column", "no column 'rejected_score'"),
        ({**TEXT, "chosen_score": 1, "rejected_score": None}, "bad_scores", "None is not 1 finite number"),
        ({**TEXT, "chosen_score": 1, "rejected_score": "two"}, "bad_scores", "'two' is not 1 finite number"),
        ({**TEXT, "chosen_score": float("inf"), "rejected_score": 0}, "bad_scores", "inf is not"),
        (
            {**TEXT, "rejected": ["b", "c"], "chosen_score": 1, "rejected_score": 0},
            "bad_scores",
            "not 2 finite numbers",
        ),
        ({**TEXT, "probability": 1.5}, "bad_probability", r"1\.5 is not 1 number in \[0, 1\]"),
        ({**TEXT, "probability": True}, "bad_probability", "True is not"),
        ({**TEXT, "probability": float("nan")}, "bad_probability", "nan is not"),
        ({**TEXT, "rejected": ["b", "c"], "probability": 0.5}, "bad_probability", "not 2 numbers"),
    ],
)
def test_what_is_refused(row: dict[str, Any], reason: str, message: str):
    with pytest.raises(RowError, match=message) as caught:
        read(row)
    assert caught.value.reason == reason
