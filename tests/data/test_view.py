import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.view import View, view_of


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ({"pairs"}, "pairs"),
        ({"pairs", "chosen", "labels"}, "pairs"),
        ({"win_probability"}, "pairs"),
        ({"win_probability", "labels"}, "pairs"),
        ({"ranking", "pairs"}, "lists"),
        ({"labels", "drift"}, "labels"),
        ({"labels", "chosen"}, "labels"),
        ({"chosen"}, "chosen"),
        ({"scores", "drift"}, "chosen"),
        (set(), "chosen"),
    ],
)
def test_kinds(wanted: set[str], kind: str):
    assert View(frozenset(wanted)).kind == kind


def test_only_judgements_are_kept_of_the_needs():
    needs = frozenset({"policy", "reference", "labels", "drift", "state", "generator"})
    assert view_of(needs, best_alone=True, max_length=9) == View(frozenset({"labels", "drift"}), True, 9)


def test_lists_and_single_responses_at_once():
    with pytest.raises(DataError, match=r"lists \(ranking\) and another single responses \(labels\)"):
        view_of(frozenset({"ranking", "labels", "policy"}), best_alone=False, max_length=None)


def test_name_that_is_no_view():
    with pytest.raises(ValueError, match="score: no view"):
        View(frozenset({"score"}))
