"""Names of a catalogue, ranked by a policy whose log-probs are known."""

import math
from unittest.mock import Mock

import pytest
import torch

from dpo_lab.data.named_items import NamedItems, Place
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.evaluation.figure import Measured
from dpo_lab.evaluation.named_items import NameRanking, measure_names
from dpo_lab.model.policy import Policy
from dpo_lab.types import Encoded, Example, LogProbs
from tests.small import small_policy

CPU = torch.device("cpu")
END = 0
NAMES = ("Alien", "Big", "Cat", "Dog")


class KnownNames:
    """A policy for which a name is one token of a known log-prob, and its end another of a known log-prob."""

    def __init__(self, token: dict[str, float], end: dict[str, float], same: dict[str, str] | None = None):
        self.token, self.end = token, end
        self.same = same or {}
        self.num_scored = 0

    def encode(self, examples: list[Example]) -> list[Encoded]:
        names = [[str(text).strip() for text in example.responses] for example in examples]
        ids = [[1 + NAMES.index(self.same.get(name, name)) for name in some] for some in names]
        return [Encoded((9, 9), tuple((one, END) for one in some)) for some in ids]

    def collate(self, groups: list[Encoded]) -> dict[str, torch.Tensor]:
        return {"names": torch.tensor([response[0] - 1 for group in groups for response in group.responses])}

    def log_prob(self, inputs: dict[str, torch.Tensor]) -> LogProbs:
        names = [NAMES[number] for number in inputs["names"].tolist()]
        self.num_scored += len(names)
        rows = torch.tensor([[self.token[name], self.end[name]] for name in names])
        return LogProbs(rows, torch.ones_like(rows, dtype=torch.bool))


def source_of(histories: dict[str, tuple[int, ...]], popularity: tuple[int, ...]) -> DataSource:
    """Each user's last item is validated behind all others."""
    rows = [Example(f"seen by {user}:", (" right", " wrong"), ((0, 1),), source=user) for user in histories]
    places = {user: Place(user, 0, len(items) - 1) for user, items in histories.items()}
    items = NamedItems(("a", "b", "c", "d"), tuple(f" {name}" for name in NAMES), popularity, histories, places)
    report = DataReport()
    return DataSource([], rows, [], 16, "truncate", True, report, named_items=items)


def measured(policy: KnownNames, source: DataSource, num_candidates: int | None = None) -> Measured:
    ranking = NameRanking.of(source, "validation", num_candidates)
    asked = Mock(spec=Policy, encode=policy.encode, collate=policy.collate, log_prob=policy.log_prob)
    return measure_names(asked, ranking, [1, 2, 3], CPU)


TOKEN = {"Alien": -1.0, "Big": -2.0, "Cat": -0.5, "Dog": -3.0}
EVEN: dict[str, float] = dict.fromkeys(NAMES, -0.1)


def test_measures_by_hand():
    """User x saw Alien, then Dog: of Big -2.1, Cat -0.6, Dog -3.1 it is the third. User y saw Cat, then Alien: of
    Alien -1.1, Big -2.1, Dog -3.1 the first. So NDCG@3 is (1/log2(4) + 1) / 2 = 0.75, NDCG@2 (0 + 1) / 2, hit@3 1,
    MRR (1/3 + 1) / 2. Popularity 5 1 1 3 puts Dog first of x's and Alien first of y's."""
    source = source_of({"x": (0, 3), "y": (2, 0)}, (5, 1, 1, 3))
    policy = KnownNames(TOKEN, EVEN)
    found = measured(policy, source)
    values = {name: figure.value for name, figure in found.figures.items()}
    assert values["ndcg@3"] == pytest.approx(0.75) and values["ndcg@2"] == pytest.approx(0.5)
    assert values["hit@3"] == 1.0 and values["hit@1"] == 0.5 and values["mrr"] == pytest.approx(2 / 3)
    assert values["popularity/ndcg@1"] == 1.0
    first = found.rows[0]
    assert first["top"] == ["Cat", "Big", "Dog"] and (first["item"], first["name"]) == ("d", "Dog")
    assert (first["rank"], first["popularity_rank"], first["num_ranked"]) == (3, 1, 3)
    assert first["log_prob"] == pytest.approx(-3.1)
    assert policy.num_scored == found.details["num_names_scored"] == 6
    assert found.figures["mrr"].num_clusters == 2 and found.figures["mrr"].low < 2 / 3 < found.figures["mrr"].high


def test_the_end_of_a_name_counts():
    """Big is likelier than Dog as a word (-2 to -3), but it goes on (-5 to end): -7 to -3.1."""
    source = source_of({"x": (0, 2, 3)}, (0, 0, 0, 0))
    assert measured(KnownNames(TOKEN, {**EVEN, "Big": -5.0}), source).rows[0]["rank"] == 1


def test_names_that_are_the_same_tokens_stand_before_the_right_one():
    """Big is written as Alien is: whoever comes next of the two, the other is before it; both are scored once. Neither
    is what the history holds taken for the other: x saw Alien, and Big is ranked."""
    policy = KnownNames(TOKEN, EVEN, same={"Big": "Alien"})
    found = measured(policy, source_of({"x": (2, 0), "y": (2, 1)}, (0, 0, 0, 0)))
    assert [row["rank"] for row in found.rows] == [2, 2] and found.details["num_names_alike"] == 2
    assert policy.num_scored == 4
    assert measured(policy, source_of({"x": (0, 1)}, (0, 0, 0, 0))).rows[0]["top"] == ["Cat", "Big", "Dog"]


def test_candidates_are_drawn_by_prompt_and_item_alone():
    """The right one is among them, what was seen is not, and of more draws the first are those of fewer."""
    source = source_of({f"user {number}": (0, 1) for number in range(40)}, (0, 0, 0, 0))
    few, more, everything = (NameRanking.of(source, "validation", num) for num in (1, 2, None))
    drawn = []
    for example, next_item in few.examples:
        candidates = few.candidates(example, next_item)
        assert 1 in candidates and 0 not in candidates and len(candidates) == 2
        assert set(candidates) < set(more.candidates(example, next_item))
        assert more.candidates(example, next_item) == everything.candidates(example, next_item) == [1, 2, 3]
        drawn += [item for item in candidates if item != 1]
    assert 10 <= drawn.count(2) <= 30, "uniform, give or take 3 standard deviations"
    assert few.num_rows == 80 and everything.num_rows == 120
    found = measured(KnownNames(TOKEN, EVEN), source, 1)
    assert "Krichene" in found.details["candidates"] and found.details["num_candidates"] == 1


def test_many_names_in_parts_are_what_each_is_by_itself(monkeypatch: pytest.MonkeyPatch):
    """A real model, once with all names in one pass and once name by name, and by its own log-prob."""
    policy, source = small_policy().eval(), source_of({"x": (0, 3)}, (0, 0, 0, 0))
    ranking = NameRanking.of(source, "validation", None)
    at_once = measure_names(policy, ranking, [3], CPU)
    monkeypatch.setattr("dpo_lab.evaluation.named_items.BATCH_TOKENS", 1)
    one_by_one = measure_names(policy, ranking, [3], CPU)
    assert at_once.rows[0]["log_prob"] == pytest.approx(one_by_one.rows[0]["log_prob"], abs=1e-4)
    assert at_once.rows[0]["top"] == one_by_one.rows[0]["top"]
    encoded = policy.encode([Example("seen by x:", (" Dog",))])
    assert encoded[0].responses[0][-1] == policy.end_id
    own = policy.log_prob(policy.collate(encoded)).sum().item()
    assert at_once.rows[0]["log_prob"] == pytest.approx(own, abs=1e-4)


def test_a_policy_that_diverged_ranks_nothing():
    with pytest.raises(UserError, match="x: the policy gives the name of an item no log-probability"):
        measured(KnownNames(dict.fromkeys(NAMES, math.nan), EVEN), source_of({"x": (0, 3)}, (0, 0, 0, 0)))


def test_rows_without_a_next_item_are_refused():
    source = source_of({"x": (0, 3)}, (0, 0, 0, 0))
    source.validation[:] = [Example("made", (" Dog",), source="elsewhere")]
    with pytest.raises(UserError, match="no row of validation has a single next item"):
        NameRanking.of(source, "validation", None)
