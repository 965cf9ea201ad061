"""Examples in token space, and the items that one objective sees of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_lab.data.batch import Collate, Item, make_batch
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.view import View
from dpo_lab.types import Encoded, PreferenceBatch


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded examples that fit, and what was judged of each: ``judgements[i]`` indexes ``encoded[i].responses``."""

    encoded: list[Encoded]
    judgements: list[Judgement]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.encoded)

    def longest_response(self) -> int:
        """Its ids; 0 where there is none."""
        return max((len(response) for encoded in self.encoded for response in encoded.responses), default=0)

    def items(self, view: View) -> list[Item]:
        """All items of `view`, in order: by its `kind`

        * ``pairs``: each pair;
        * ``chosen``: each distinct chosen response and demonstration;
        * ``labels``: each distinct (response, label); without labels, chosen is 1 and rejected 0;
        * ``lists``: each example of which the order is known (`known_order`).

        What has no such judgement gives no item.
        """
        return [item for example in range(len(self)) for item in self._items(example, view)]

    def collate_items(self, items: Sequence[Item], collate: Collate, view: View) -> PreferenceBatch:
        """The batch of `items`, see `dpo_lab.data.batch.make_batch`."""
        return make_batch(self.encoded, self.judgements, items, collate, view)

    def num_tokens(self, items: Sequence[Item]) -> int:
        """Ids of a batch of `items`: each prompt and each response once, and each borrowed response."""
        used = {item.example: set[int]() for item in items}
        total = sum(len(self.encoded[example].prompt) for example in used)
        for item in items:
            used[item.example].update(item.responses)
            if item.borrowed is not None:
                example, response = item.borrowed
                total += len(self.encoded[example].responses[response])
        return total + sum(
            len(self.encoded[example].responses[index]) for example, indices in used.items() for index in indices
        )

    def borrow(self, window: Sequence[Item]) -> list[Item]:
        """`window` where each item has borrowed the first response of the next item, cyclic, with another prompt.

        So the borrowed responses depend on the window alone, not on how ranks and micro-batches share it. Where
        the window has one prompt only, nothing is borrowed. Prompts are compared by their token ids.
        """
        following = next_other([self.encoded[item.example].prompt for item in window])
        return [
            item if other is None else item._replace(borrowed=(window[other].example, window[other].responses[0]))
            for item, other in zip(window, following, strict=True)
        ]

    def _items(self, example: int, view: View) -> list[Item]:
        judgement = self.judgements[example]
        if view.kind == "pairs":
            return [Item(example, pair, (number,)) for number, pair in enumerate(judgement.pairs)]
        if view.kind == "labels":
            return [Item(example, (index,), label=label) for index, label in judgement.judged()]
        if view.kind == "chosen":
            return [Item(example, (index,)) for index in judgement.chosen()]
        order = known_order(self.encoded[example], judgement, view.best_alone)
        if order is None:
            return []
        pairs = tuple(number for number, pair in enumerate(judgement.pairs) if set(pair) <= set(order))
        return [Item(example, order, pairs)]


def known_order(encoded: Encoded, judgement: Judgement, best_alone: bool) -> tuple[int, ...] | None:
    """`Judgement.order`, in which responses that have become the same token ids stand once, at their best place."""
    order = judgement.order(best_alone) or ()
    first = {encoded.responses[index]: index for index in reversed(order)}
    distinct = tuple(index for index in order if first[encoded.responses[index]] == index)
    return distinct if len(distinct) > 1 else None


def next_other(values: Sequence[tuple[int, ...]]) -> list[int | None]:
    """Of each value: the place of the next one, cyclic, that differs; None where all are equal.

    >>> next_other([(1,), (1,), (2,)]), next_other([(1,), (1,)])
    ([2, 2, 0], [None, None])
    """
    num = len(values)
    following: list[int | None] = [None] * num
    # Twice around, backwards: the second time, the last places know what stands at the start.
    for place in reversed(range(2 * num)):
        here, after = place % num, (place + 1) % num
        following[here] = after if values[here] != values[after] else following[after]
    return following
