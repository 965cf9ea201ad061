"""What data is refused for which loss, in which words, and what is left out and said."""

import pytest

from dpo_lab.data.check_view import check_view
from dpo_lab.data.errors import DataError
from dpo_lab.data.view import View
from dpo_lab.types import Example

PAIR = Example("p", ("a", "b"), ((0, 1),), source="t row 1")
OTHER = Example("q", ("c", "d"), ((1, 0),), (1.0, 2.0), "t row 2", win_probabilities=(0.5,))
GOOD = Example("p", ("a",), source="t row 3", labels=(1,))
BAD = Example("q", ("b",), source="t row 4", labels=(0,))
TIED = Example("r", ("a", "b", "c"), ((0, 1), (0, 2)), (3.0, 1.0, 1.0), "t row 5")
TIED_AT_TOP = Example("r", ("a", "b", "c"), ((0, 2), (1, 2)), (3.0, 3.0, 1.0), "t row 6")
BEST_ALONE = Example("s", ("a", "b", "c"), ((0, 1), (0, 2)), source="t row 7", ranking=(0, 1, 2), is_best_alone=True)
SEVERAL = Example("s", ("a", "b", "c"), ((0, 1), (1, 2)), source="t row 8")

DEMONSTRATION = Example("t", ("a",), source="t row 9")


def view(*wanted: str, best_alone: bool = False) -> View:
    return View(frozenset(wanted), best_alone)


def refusal(wanted: View, train: list[Example], validation: list[Example] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        check_view(wanted, train, validation or [])
    return str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "train"),
    [
        (view("pairs"), [PAIR, OTHER, TIED]),
        (view("chosen"), [PAIR, GOOD]),
        (view("labels", "drift"), [GOOD, BAD]),
        (view("labels"), [PAIR]),
        (view("pairs", "labels", "drift"), [PAIR, OTHER]),
        (view("ranking"), [PAIR, OTHER]),
        (view("ranking", best_alone=True), [TIED, BEST_ALONE]),
        (view("pairs", "scores", "win_probability"), [OTHER]),
    ],
)
def test_what_fits_is_taken_whole(wanted: View, train: list[Example]):
    assert check_view(wanted, train, train) == []


def test_what_is_left_out_is_counted():
    assert check_view(view("pairs"), [PAIR, GOOD, BAD], [PAIR, GOOD]) == [
        "2 training rows have a single label: left out",
        "1 validation row has a single label: left out",
    ]
    assert check_view(view("chosen"), [PAIR, BAD], []) == ["1 training row has undesirable responses only: left out"]
    assert check_view(view("labels"), [PAIR, Example("p", ("a",))], []) == [
        "1 training row has a response to imitate and no judgement: left out"
    ]
    assert check_view(view("pairs"), [PAIR, DEMONSTRATION, DEMONSTRATION], []) == [
        "2 training rows have a response to imitate and no judgement: left out"
    ]


def test_lists_without_an_order_are_counted():
    assert check_view(view("ranking"), [PAIR, TIED, TIED_AT_TOP, BEST_ALONE, SEVERAL, GOOD], []) == [
        "2 training lists have tied scores and no complete order: left out",
        "1 training list has a known best and no complete order: left out",
        "1 training row has no order of responses: left out",
        "1 training row has a single label: left out",
    ]
    assert check_view(view("ranking", best_alone=True), [TIED, TIED_AT_TOP, BEST_ALONE], []) == [
        "1 training list has tied scores and no single best: left out"
    ]


def test_single_labels_feed_no_pairs_and_no_lists():
    message = refusal(view("pairs"), [GOOD, BAD])
    assert message.startswith(
        "the loss needs pairs of a better and a worse response, and no training row gives one: "
        "2 training rows have a single label (the first at t row 3). Give chosen and rejected"
    )
    assert "needs lists of responses with a known order" in refusal(view("ranking"), [GOOD, BAD])
    assert "needs pairs of a better" in refusal(view("pairs", "scores"), [GOOD, BAD])


def test_undesirable_responses_are_not_imitated():
    message = refusal(view("chosen"), [BAD])
    assert "needs responses to imitate, and no training row gives one: 1 training row has undesirable" in message


def test_nothing_was_judged():
    message = refusal(view("labels"), [DEMONSTRATION])
    assert "needs responses judged as desirable or undesirable" in message
    assert "1 training row has a response to imitate and no judgement (the first at t row 9). Give response" in message
    assert message.endswith("Or imitate the responses, with loss=sft.")


@pytest.mark.parametrize(
    ("wanted", "columns", "said"),
    [
        (view("labels"), ["id", "labl"], "Columns that nothing reads: 'id', 'labl' (perhaps 'labl' for label);"),
        (view("pairs"), ["chosn", "rejectd"], "(perhaps 'chosn' for chosen, 'rejectd' for rejected);"),
        (view("ranking"), ["input"], "Columns that nothing reads: 'input'; a judgement in one of them"),
    ],
)
def test_a_judgement_that_may_stand_in_another_column(wanted: View, columns: list[str], said: str):
    with pytest.raises(DataError) as caught:
        check_view(wanted, [DEMONSTRATION], [], columns_not_read=columns)
    assert said in str(caught.value)


def test_demonstrations_are_imitated_beside_chosen_responses():
    assert check_view(view("chosen"), [PAIR, DEMONSTRATION], [DEMONSTRATION]) == []


def test_lists_that_are_all_tied():
    message = refusal(view("ranking"), [TIED, TIED_AT_TOP])
    assert "2 training lists have tied scores and no complete order (the first at t row 5). Give ranked" in message


def test_no_row_at_all():
    assert "no training row gives one: there is no row." in refusal(view("pairs"), [])


def test_validation_that_gives_nothing():
    message = refusal(view("pairs"), [PAIR], [GOOD])
    assert "no validation row gives one: 1 validation row has a single label (the first at t row 3)" in message
    assert "data.validation_fraction=0" in message


def test_scores_that_are_missing():
    message = refusal(view("pairs", "scores"), [OTHER, PAIR, SEVERAL, GOOD])
    assert message.startswith("the loss needs scores: 2 of 3 training rows have none, the first at t row 1. For every")
    assert "chosen with chosen_score and rejected_score" in message
    message = refusal(view("pairs", "scores"), [OTHER], [PAIR])
    assert "the loss needs scores: 1 of 1 validation rows has none, the first at t row 1." in message


def test_probabilities_that_are_missing():
    message = refusal(view("win_probability"), [OTHER, PAIR])
    assert message.startswith("the loss needs win_probability: 1 of 2 training rows has none, the first at t row 1.")
    assert "give chosen and rejected with probability" in message


@pytest.mark.parametrize(
    ("example", "there", "gone", "label"),
    [(GOOD, "desirable", "undesirable", "false"), (BAD, "undesirable", "desirable", "true")],
)
def test_one_label_alone(example: Example, there: str, gone: str, label: str):
    message = refusal(view("labels"), [example, example])
    assert f"all 2 judged training responses are {there}, and none is {gone}. Add rows with label {label}" in message
    assert check_view(view("labels"), [GOOD, BAD], [example]) == [f"all 1 judged validation responses are {there}"]


def test_one_prompt_alone():
    message = refusal(view("pairs", "drift"), [PAIR, PAIR])
    assert "needs responses to other prompts (drift): all 2 training rows answer one prompt." in message
    assert check_view(view("pairs", "drift"), [PAIR, OTHER], [PAIR]) == [
        "all 1 validation rows answer one prompt: no response can be borrowed"
    ]
    assert "drift" in refusal(view("pairs", "drift"), [PAIR, BAD]), "a row that is left out lends nothing"
