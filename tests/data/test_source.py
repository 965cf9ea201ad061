from dataclasses import replace

from dpo_lab.data.source import chosen_demonstrations, fingerprint_examples
from dpo_lab.types import Example

EXAMPLE = Example("p", ("a", "b", "c"), ((0, 1), (0, 2), (1, 2)), (3.0, 2.0, 1.0), "train.jsonl row 1")


def test_fingerprint_is_of_the_content():
    moved = replace(EXAMPLE, source="elsewhere.csv row 9")
    assert fingerprint_examples([EXAMPLE]) == fingerprint_examples([moved])
    for change in ({"prompt": "q"}, {"responses": ("a", "b", "d")}, {"pairs": ((0, 1),)}, {"scores": None}):
        assert fingerprint_examples([EXAMPLE]) != fingerprint_examples([replace(EXAMPLE, **change)])
    for change in (
        {"win_probabilities": (0.5, 0.5, 0.5)},
        {"labels": (1, 0, 0)},
        {"ranking": (0, 1, 2)},
        {"is_best_alone": True},
    ):
        assert fingerprint_examples([EXAMPLE]) != fingerprint_examples([replace(EXAMPLE, **change)])


def test_fingerprint_knows_the_split():
    assert fingerprint_examples([EXAMPLE], []) != fingerprint_examples([], [EXAMPLE])


def test_demonstrations_are_distinct_chosen_responses():
    again = Example("p", ("b", "z"), ((0, 1),))
    demonstrations = chosen_demonstrations([EXAMPLE, again, Example("q", ("b", "z"), ((0, 1),))])
    assert [(d.prompt, d.responses, d.pairs) for d in demonstrations] == [
        ("p", ("a",), ()),
        ("p", ("b",), ()),
        ("q", ("b",), ()),
    ]


def test_demonstrations_of_labels_and_lists():
    labelled = [Example("p", ("a", "b"), labels=(0, 1)), Example("q", ("c",), labels=(0,))]
    listed = Example("r", ("d", "e"), ranking=(1, 0))
    demonstrations = chosen_demonstrations([*labelled, listed])
    assert [(d.prompt, d.responses, d.labels, d.ranking) for d in demonstrations] == [
        ("p", ("b",), None, None),
        ("r", ("e",), None, None),
    ]
