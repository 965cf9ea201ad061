"""What was judged of the responses of one example; the same as text and as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpo_lab.types import Example

IndexPairs = tuple[tuple[int, int], ...]


def _kept(values: tuple[Any, ...] | None, indices: Sequence[int]) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values[index] for index in indices)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgements of an `Example`, under the names they have there; indices are of its responses."""

    pairs: IndexPairs = ()
    win_probabilities: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None
    labels: tuple[int, ...] | None = None
    ranking: tuple[int, ...] | None = None
    is_best_alone: bool = False

    @classmethod
    def of(cls, example: Example) -> "Judgement":
        return cls(
            example.pairs,
            example.win_probabilities,
            example.scores,
            example.labels,
            example.ranking,
            example.is_best_alone,
        )

    def keep(self, indices: Sequence[int]) -> "Judgement":
        """What is left with the responses `indices` only, numbered anew in this order.

        Where only the best was known and is gone, nothing is known of the order of the others.
        """
        place = {index: number for number, index in enumerate(indices)}
        numbers = [number for number, pair in enumerate(self.pairs) if set(pair) <= place.keys()]
        ranking = self.ranking
        if ranking is not None:
            is_order_lost = self.is_best_alone and ranking[0] not in place
            ranking = None if is_order_lost else tuple(place[index] for index in ranking if index in place)
        left = self.keep_pairs(numbers)
        return Judgement(
            tuple((place[better], place[worse]) for better, worse in left.pairs),
            left.win_probabilities,
            _kept(self.scores, indices),
            _kept(self.labels, indices),
            ranking,
            self.is_best_alone and ranking is not None,
        )

    def keep_pairs(self, numbers: Sequence[int]) -> "Judgement":
        """What is left with the pairs of these numbers only."""
        pairs = tuple(self.pairs[number] for number in numbers)
        return replace(self, pairs=pairs, win_probabilities=_kept(self.win_probabilities, numbers))

    def order(self, best_alone: bool) -> tuple[int, ...] | None:
        """At least two responses, best first; None where the order is not known.

        The ranking; else strictly different scores; else the only pair. With `best_alone` the first has to be better
        than each of the others, and these may stand in any order.

        >>> Judgement(scores=(1.0, 3.0, 1.0)).order(best_alone=True), Judgement(scores=(1.0, 3.0, 1.0)).order(False)
        ((1, 0, 2), None)
        """
        if self.ranking is not None:
            is_known = best_alone or not self.is_best_alone or len(self.ranking) == 2
            return self.ranking if is_known and len(self.ranking) > 1 else None
        if self.scores is not None and len(self.scores) > 1:
            ordered = sorted(self.scores, reverse=True)
            if len(set(ordered)) == len(ordered) or (best_alone and ordered[0] > ordered[1]):
                scores = self.scores
                return tuple(sorted(range(len(scores)), key=lambda index: -scores[index]))
        return self.pairs[0] if len(self.pairs) == 1 else None

    def judged(self) -> list[tuple[int, int]]:
        """Each distinct (response, label): the labels, else 1 for what a pair prefers and 0 for the other."""
        if self.labels is not None:
            return list(enumerate(self.labels))
        sides = [side for better, worse in self.pairs for side in ((better, 1), (worse, 0))]
        return list(dict.fromkeys(sides))

    def chosen(self) -> list[int]:
        """Responses to imitate: preferred in a pair, else labelled desirable, else best; a demonstration is its own."""
        if self.pairs:
            return list(dict.fromkeys(better for better, _ in self.pairs))
        if self.labels is not None:
            return [index for index, label in enumerate(self.labels) if label == 1]
        order = self.order(best_alone=True)
        return [0 if order is None else order[0]]

    @property
    def is_demonstration(self) -> bool:
        """Whether nothing was judged."""
        return not self.pairs and self.labels is None and self.ranking is None
