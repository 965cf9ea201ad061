"""Questions about passages: how they are read, and which spans are rejected."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.mined_spans import write_mined
from dpo_lab.data.questions import passage_of, questions
from dpo_lab.data.source import DataSource
from dpo_lab.types import Example

PASSAGE = "The bank sold the old share in March. The coach bought it in May."


def write(name: str, content: Any) -> str:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return name


def at(text: str, passage: str = PASSAGE) -> dict[str, Any]:
    return {"text": text, "answer_start": passage.index(text)}


def squad(*asked: dict[str, Any], context: str = PASSAGE) -> dict[str, Any]:
    return {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(asked)}]}]}


def read(content: Any, name: str = "squad.json", **knobs: Any) -> DataSource:
    return questions(path=write(name, content), **{"validation_fraction": 0, **knobs})


def row(**changes: Any) -> str:
    plain = {"question": "Who sold?", "context": PASSAGE, "answers": [at("The bank")]}
    return json.dumps({**plain, **changes})


def turns(example: Example) -> list[Any]:
    """The one message that each response is."""
    return [response[0] for response in example.responses]


def test_squad_by_hand():
    source = read(squad({"id": "1", "question": "Who sold?", "answers": [at("The bank"), at("bank")]}))
    (example,) = source.train
    assert example.prompt == [{"role": "system", "content": PASSAGE}, {"role": "user", "content": "Who sold?"}]
    assert example.responses[0] == [{"role": "assistant", "content": "The bank", "start": 0}]
    assert example.scores == (1.0, 1.0)
    assert example.pairs == ()
    assert example.source == "squad.json article 1 paragraph 1 question 1"
    assert [demonstration.responses for demonstration in source.demonstrations] == [example.responses[:1]]


@pytest.mark.parametrize(
    "answers", [[at("The bank")], {"text": ["The bank"], "answer_start": [0]}, at("The bank"), [{"text": "The bank"}]]
)
def test_every_form_of_an_answer(answers: Any):
    (example,) = read(row(answers=answers), "rows.jsonl").train
    assert example.responses == ([{"role": "assistant", "content": "The bank", "start": 0}],)


def test_given_spans_are_graded_by_their_overlap():
    """Token F1 against "The bank": "bank sold" shares 1 of 2 words with 1 (the article goes): 2/3; the coach: 0."""
    rejected = [at("The coach"), at("bank sold"), at("bank")]
    source = read(row(rejected=rejected), "rows.jsonl")
    (example,) = source.train
    assert [turn["content"] for turn in turns(example)] == ["The bank", "The coach", "bank sold"]
    assert example.scores == pytest.approx((1.0, 0.0, 2 / 3))
    assert example.pairs == ((0, 1), (0, 2))
    assert example.ranking == (0, 2, 1) and not example.is_best_alone
    assert source.report.counts == {"rejected_is_right": 1}
    assert read(row(rejected=rejected), "rows.jsonl", num_rejected=1).train[0].pairs == ((0, 1),)
    assert read(row(rejected=rejected), "rows.jsonl", rejected="none").train[0].pairs == ()


def test_random_spans_are_wrong_whole_words_and_of_each_row_alone():
    rows = [row(question=f"Who sold {number}?") for number in range(50)]
    source = read("\n".join(rows), "rows.jsonl", rejected="random", num_rejected=3)
    words = PASSAGE.split()
    for example in source.train:
        spans = turns(example)[1:]
        assert len(spans) == 3
        for span in spans:
            assert PASSAGE[span["start"] : span["start"] + len(span["content"])] == span["content"]
            assert set(span["content"].split()) <= set(words) and len(span["content"].split()) <= 4
        assert example.scores is not None and max(example.scores[1:]) < 1
    fewer = read("\n".join(rows[:20]), "rows.jsonl", rejected="random", num_rejected=3)
    assert fewer.train == source.train[:20]


def test_passages_are_never_on_both_sides():
    content = {
        "data": [
            squad(*[{"question": f"{n} {q}?", "answers": [at("May")]} for q in range(3)], context=f"{PASSAGE} {n}")[
                "data"
            ][0]
            for n in range(40)
        ]
    }
    source = read(content, validation_fraction=0.3)
    train, held_out = ({passage_of(example) for example in part} for part in (source.train, source.validation))
    assert train and held_out and not train & held_out
    assert len(source.train) + len(source.validation) == 120


def test_mined_spans_say_where_they_come_from():
    write_mined(Path("mined.json"), [json.loads(row(rejected=[at("The coach")]))], {"run": "abc", "weights": "12"})
    source = questions(path="mined.json", validation_fraction=0)
    assert source.train[0].pairs == ((0, 1),)
    assert source.report.lines()[-1] == "made with mined.json: run abc, weights 12"
    write("mined.json", {**json.loads(Path("mined.json").read_text()), "rows": 3})
    with pytest.raises(DataError, match="no whole file of mined spans"):
        questions(path="mined.json")


def test_questions_without_an_answer_are_counted():
    asked = [
        {"question": "Who?", "answers": [], "is_impossible": True},
        {"question": "Who sold?", "answers": [at("May")]},
    ]
    source = read(squad(*asked))
    assert source.report.counts == {"no_answer": 1}
    assert len(source.train) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": [{"text": "bank", "answer_start": 0}]}, "'bank' at character 0, where the passage has 'The '"),
        ({"answers": [{"text": "in"}]}, "no answer_start, and 'in' stands more than once"),
        ({"answers": [{"text": "gold"}]}, "'gold' stands nowhere"),
        ({"answers": [{"text": " ", "answer_start": 3}]}, "an answer without text"),
        ({"answers": [{"text": "bank", "answer_start": "4"}]}, "answer_start '4' is no number of characters"),
        ({"answers": "The bank"}, "str where a list of answers belongs"),
        ({"answers": ["The bank"]}, "an answer is an object"),
        ({"question": ""}, "the question is empty"),
        ({"context": None}, "null where text belongs"),
    ],
)
def test_bad_rows_are_told_or_dropped(changes: dict[str, Any], message: str):
    content = f"{row()}\n{row(**changes)}"
    with pytest.raises(DataError, match=rf"rows\.jsonl row 2(.|\n)*{message}"):
        read(content, "rows.jsonl")
    assert len(read(content, "rows.jsonl", on_problem="drop").train) == 1


@pytest.mark.parametrize("content", [{"data": [{"title": "t"}]}, {"data": [{"paragraphs": [{"context": "c"}]}]}])
def test_other_builds_of_squad_are_told(content: Any):
    with pytest.raises(DataError, match=r"in every row, .*without '(paragraphs|qas)'"):
        read(content)


def test_other_names_of_columns():
    with pytest.raises(DataError, match=r"no column 'context'(.|\n)*the passage in which the answer stands"):
        read('{"question": "a?", "passage": "b", "answers": []}', "rows.jsonl")
    (example,) = read(row().replace('"context"', '"passage"'), "rows.jsonl", columns={"context": "passage"}).train
    assert passage_of(example) == PASSAGE
