"""Texts with gold classes: how they are read, and which wrong classes are rejected."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.confusion import Confusion
from dpo_lab.data.errors import DataError
from dpo_lab.data.labelled import labelled
from dpo_lab.data.preference import draw_rejected
from dpo_lab.data.source import DataSource

CLASSES = ["sport", "money", "games"]


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def read(num: int = 30, **knobs: Any) -> DataSource:
    """`num` texts, the classes in turn."""
    rows = [json.dumps({"text": f"text {index}", "label": CLASSES[index % 3]}) for index in range(num)]
    return labelled(path=write("rows.jsonl", "\n".join(rows)), validation_fraction=0, **knobs)


def rejected_of(source: DataSource) -> list[Any]:
    return [example.responses[1:] for example in source.train]


def test_headlines_with_numbers_of_classes():
    """As published: title, tab, number, no header; names in a file of their own. Quotes are characters."""
    write("class.txt", "finance\nrealty\nstocks")
    write("dev.txt", '他说"好\t2\nA second title\t0\n')
    columns = {"text": "column_1", "label": "column_2"}
    source = labelled(path="dev.txt", columns=columns, classes="class.txt", validation_fraction=0, num_rejected=None)
    assert source.classes == ("finance", "realty", "stocks")
    first, second = source.train
    assert (first.prompt, first.responses[0], first.source) == ('他说"好', "stocks", "dev.txt row 1")
    assert (second.prompt, second.responses[0]) == ("A second title", "finance")
    assert set(map(str, first.responses)) == {"finance", "realty", "stocks"}
    assert first.pairs == ((0, 1), (0, 2))
    assert first.ranking == (0, 1, 2) and first.is_best_alone


def test_names_come_from_the_labels_sorted_by_value_where_they_are_numbers():
    assert read().classes == ("games", "money", "sport")
    write("rows.csv", "text,label\na,10\nb,9\nc,10\n")
    assert labelled(path="rows.csv", validation_fraction=0).classes == ("9", "10")
    assert labelled(path="rows.csv", validation_fraction=0, classes=["10", "9"]).classes == ("10", "9")


def test_a_pair_of_each_text_by_default():
    (example, *_) = read().train
    assert example.responses[0] == "sport" and len(example.responses) == 2
    assert (example.pairs, example.ranking, example.labels) == (((0, 1),), None, None)


def test_order_of_the_classes_is_part_of_the_identity():
    assert read(classes=CLASSES).fingerprint != read(classes=CLASSES[::-1]).fingerprint


@pytest.mark.parametrize("num_rejected", [1, 2])
def test_uniform_draws_are_even_and_of_each_row_alone(num_rejected: int):
    """600 texts of each class: each of its two wrong ones 300 +- 49 (4 standard errors) times as the first."""
    rejected = rejected_of(read(1800, num_rejected=num_rejected))
    counts = Counter((index % 3, drawn[0]) for index, drawn in enumerate(rejected))
    assert len(counts) == 6
    assert all(abs(count - 300) < 49 for count in counts.values())
    assert all(len(set(drawn)) == num_rejected for drawn in rejected)
    assert rejected_of(read(900, num_rejected=num_rejected)) == rejected[:900]
    assert rejected_of(read(1800, num_rejected=num_rejected, preference_seed=1)) != rejected


def test_weighted_draws_follow_their_weights():
    """Weights 3 and 1 of the wrong classes: the first draw is the heavier one in 3 of 4 cases, 4 standard errors."""
    weights = {"money": 3.0, "games": 1.0}
    drawn = [draw_rejected(f"text {index}", "sport", weights, 1, 0) for index in range(4000)]
    assert abs(drawn.count(("money",)) - 3000) < 4 * (4000 * 0.75 * 0.25) ** 0.5
    both = [draw_rejected(f"text {index}", "sport", weights, 2, 0) for index in range(100)]
    assert [two[:1] for two in both] == drawn[:100]


def test_class_weights_by_name_or_by_how_often_each_is_gold():
    drawn = rejected_of(read(preference="class_weighted", class_weights={"money": 1.0, "games": 1.0, "sport": 1e-9}))
    assert {name for (name,) in drawn[1::3]} == {"games"}  # of money: games always, sport never
    write(
        "rows.csv",
        "text,label\n" + "".join(f"text {n},{'a' if n % 50 else 'b' if n % 100 else 'c'}\n" for n in range(1000)),
    )
    source = labelled(path="rows.csv", preference="class_weighted", validation_fraction=0)
    of_rare = [example.responses[1] for example in source.train if example.responses[0] != "a"]
    assert len(of_rare) == 20 and of_rare.count("a") >= 18  # 980 of 1000 texts are of class a, 20 of b and c


def confusion(**changes: Any) -> str:
    lines = {"sport": (0.5, 0.5, 0.0), "money": (0.1, 0.8, 0.1), "games": (0.0, 0.3, 0.7)}
    made = Confusion(tuple(CLASSES), ((1, 1, 0), (0, 2, 0), (0, 0, 2)), tuple(lines.values()), {"run": "abc"})
    made.write(Path("confusion.json"))
    content = json.loads(Path("confusion.json").read_text()) | changes
    return write("confusion.json", json.dumps(content))


def test_hard_negatives_are_what_a_model_took_it_for():
    """Of sport never games, of games never sport; of money both. The report says whose mistakes they are."""
    source = read(300, preference="confusion_weighted", confusion=confusion())
    drawn = rejected_of(source)
    assert {name for (name,) in drawn[0::3]} == {"money"} == {name for (name,) in drawn[2::3]}
    assert {name for (name,) in drawn[1::3]} == {"sport", "games"}
    assert source.report.lines()[-1] == "made with confusion.json: a confusion matrix of 6 texts; run abc"


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"classes": ["sport", "money"]}, r"10 unknown_class: .*\n.*'games' is none of the 2 classes: sport, money"),
        ({"classes": ["sport"]}, "holds 1 class; there must be two or more"),
        ({"classes": ["sport", "sport"]}, "names sport twice"),
        ({"classes": "nowhere.txt"}, r"there is no file nowhere\.txt"),
        ({"columns": {"title": "text"}}, "data.columns maps title, which nothing reads"),
        ({"num_rejected": 3}, r"data\.num_rejected=3: rows\.jsonl row 1 of class sport has 2 wrong classes"),
        ({"class_weights": {"sport": 1.0}}, "acts with data.preference=class_weighted alone"),
        ({"preference": "class_weighted", "class_weights": {"art": 1.0}}, "art is none of the classes"),
        ({"preference": "confusion_weighted"}, "needs a file that `dpo-lab mine"),
        ({"confusion": "c.json"}, "nothing else reads one"),
        ({"preference": "confusion_weighted", "confusion": "no.json"}, r"there is no file no\.json"),
        ({"num_rejected": 2, "label_noise": 0.1}, "only a pair or a single label can be swapped"),
    ],
)
def test_knobs_that_cannot_act_are_refused(knobs: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        read(**knobs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "another"}, "is no confusion matrix that `dpo-lab mine` wrote"),
        ({"classes": ["sport", "money", "art"]}, "is of the classes sport, money, art, and the data has games, money"),
        ({"probability": [[1, 0, 0], [0, 1, 0]]}, "does not hold 3 lines of 3 probabilities"),
        ({"probability": [[1, 0, 0], [0, 1, 0], [0, 0.5, 0.6]]}, "add up to 1"),
    ],
)
def test_confusion_of_something_else_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        read(preference="confusion_weighted", confusion=confusion(**changes))


def test_bad_rows_are_told_or_dropped_and_counted():
    write(
        "rows.jsonl",
        '{"text": "a", "label": "x"}\n{"text": " ", "label": "x"}\n{"text": "b", "label": null}\n'
        '{"text": "c", "label": "y"}',
    )
    with pytest.raises(
        DataError, match=r"2 rows cannot be used(.|\n)*rows.jsonl row 2, column 'text': the text is empty"
    ):
        labelled(path="rows.jsonl")
    source = labelled(path="rows.jsonl", on_problem="drop", validation_fraction=0)
    assert source.report.counts == {"empty_prompt": 1, "null_value": 1}
    assert len(source.train) == 2


def test_other_names_of_columns_are_suggested():
    write("rows.csv", "headline,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=r"no column 'text'(.|\n)*Columns found: headline, label"):
        labelled(path="rows.csv")
    source = labelled(path="rows.csv", columns={"text": "headline"}, validation_fraction=0)
    assert [example.prompt for example in source.train] == ["a", "b"]


def test_our_own_names_are_suggested_where_the_columns_of_another_format_were_looked_for():
    """data=thucnews looks for columns by their place; a file with a header has our names."""
    write("rows.csv", "text,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=r"no column 'column_1'(.|\n)*'data.columns=\{text: text, label: label\}'"):
        labelled(path="rows.csv", columns={"text": "column_1", "label": "column_2"})


def test_repeated_texts_and_overlap_with_validation_are_counted():
    write("train.csv", "text,label\na,x\na,x\na,y\nb,y\n")
    write("test.csv", "text,label\nb,y\n")
    source = labelled(path="train.csv", validation_path="test.csv")
    assert source.report.counts == {"duplicate_judgement": 1, "contradictory_class": 1, "prompt_in_validation": 1}


def test_demonstrations_are_the_gold_classes():
    demonstrations = read(num_rejected=2).demonstrations
    assert [example.responses for example in demonstrations] == [(CLASSES[index % 3],) for index in range(30)]
