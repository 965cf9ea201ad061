"""Histories of items become examples: what came before, what came next, and what did not."""

import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Literal, NamedTuple

from dpo_lab.data.errors import DataError
from dpo_lab.data.named_items import NamedItems, Place
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, OnProblem, Overflow, chosen_demonstrations
from dpo_lab.types import Example

Negatives = Literal["uniform", "popularity"]
Rows = Literal["preferences", "sequences"]
HELD_OUT = 2
"""Last items of each history that are not trained on: the second last is validated, the last is tested."""


class Sides(NamedTuple):
    """What a run sees of all histories; `sequences` are those that a supervised stage goes through."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    sequences: list[Example]


def by_id(items: Sequence[str]) -> str:
    return " ".join(items)


def by_name(items: Sequence[str]) -> str:
    """What a language model reads before it names the next one."""
    return "\n".join(["Seen so far, oldest first:", *items, "Next:"])


@dataclass(frozen=True, kw_only=True)
class Histories:
    """Items of every user, oldest first, split by time: the last is tested, the second last validated.

    Attributes:
        items: of each user, all different, at least three.
        catalogue: everything that can come next.
        num_negatives: items that did not come next, drawn for each that did.
        negatives: "uniform": each as likely; "popularity": in proportion to how many training histories hold it. In
            both cases without those that the user's training history holds, and all different.
        negative_seed: draws them, for each user and place by itself.
        max_history: items that a training row shows before the next one, the latest. Held-out rows show the whole
            history, since what was seen is not to be recommended.
        num_places: last places of each training history that give a training row; None: all but the first.
        show: writes a history as a prompt.
        say: writes an item as a response.
    """

    items: Mapping[str, Sequence[str]]
    catalogue: Sequence[str]
    num_negatives: int = 1
    negatives: Negatives = "uniform"
    negative_seed: int = 0
    max_history: int = 50
    num_places: int | None = None
    show: Callable[[Sequence[str]], str] = by_id
    say: Callable[[str], str] = field(default=str)

    def sides(self) -> Sides:
        """
        Raises:
            DataError: the catalogue does not hold enough items that a user has not met.
        """
        sides = Sides([], [], [], [])
        for user, items in self.items.items():
            past = items[:-HELD_OUT]
            first = 1 if self.num_places is None else max(1, len(past) - self.num_places)
            for place in range(first, len(past)):
                shown = past[self._first_shown(place) : place]
                sides.train.append(self._example(user, shown, past[place], place))
            sides.validation.append(self._example(user, past, items[-2], len(past)))
            sides.test.append(self._example(user, items[:-1], items[-1], len(past) + 1))
            sides.sequences.extend(self._sequences(user, past))
        return sides

    def named_items(self) -> NamedItems:
        """The catalogue as responses, and what of it each row is about."""
        number = {item: index for index, item in enumerate(self.catalogue)}
        places: dict[str, Place] = {}
        for user, items in self.items.items():
            num_trained = len(items) - HELD_OUT
            for place in range(1, len(items)):
                first = self._first_shown(place) if place < num_trained else 0
                places[_source(user, place)] = Place(user, first, place)
        counts = Counter(item for items in self._trained.values() for item in items[1:])
        return NamedItems(
            ids=tuple(self.catalogue),
            responses=tuple(self.say(item) for item in self.catalogue),
            popularity=tuple(counts[item] for item in self.catalogue),
            histories={user: tuple(number[item] for item in items) for user, items in self.items.items()},
            places=places,
        )

    def _first_shown(self, place: int) -> int:
        """Where what a training row shows of the items before `place` begins."""
        return max(0, place - self.max_history)

    def _example(self, user: str, history: Sequence[str], item: str, place: int) -> Example:
        """`item` came next, at `place` counted from 0, and is better than others that did not."""
        responses = (item, *self._draw(user, {*self._trained[user], *history, item}, place))
        return Example(
            self.show(history),
            tuple(self.say(response) for response in responses),
            tuple((0, number) for number in range(1, len(responses))),
            source=_source(user, place),
            ranking=tuple(range(len(responses))),
            is_best_alone=len(responses) > 2,
        )

    def _sequences(self, user: str, past: Sequence[str]) -> list[Example]:
        """Every item but the first as something that came next, once: stretches that begin where others end."""
        stretches, end = [], len(past)
        while end > 1:
            start = max(0, end - 1 - self.max_history)
            shown = Example(
                self.show(past[start : start + 1]),
                (" ".join(past[start + 1 : end]),),
                source=f"user {user} items {start + 1} to {end}",
            )
            stretches.append(shown)
            end = start + 1
        return stretches

    def _draw(self, user: str, met: set[str], place: int) -> list[str]:
        num_others = len(self.catalogue) - len(met)
        if num_others < self.num_negatives:
            raise DataError(
                f"user {user} has met all but {num_others} of {len(self.catalogue)} items, and "
                f"data.num_negatives={self.num_negatives} others are wanted. Lower it."
            )
        generator, drawn = random.Random(f"{self.negative_seed}/{user}/{place}"), dict[str, None]()
        while len(drawn) < self.num_negatives:
            candidate = self.catalogue[self._draw_index(generator)]
            if candidate not in met:
                drawn.setdefault(candidate)
        return list(drawn)

    def _draw_index(self, generator: random.Random) -> int:
        if self.negatives == "uniform":
            return generator.randrange(len(self.catalogue))
        return bisect(self._bounds, generator.random() * self._bounds[-1])

    @cached_property
    def _trained(self) -> dict[str, Sequence[str]]:
        return {user: items[:-HELD_OUT] for user, items in self.items.items()}

    @cached_property
    def _bounds(self) -> list[float]:
        """Cumulative popularity; an item that no training history holds counts as half of one that one holds."""
        counts = Counter(item for items in self._trained.values() for item in items)
        return list(accumulate(counts[item] or 0.5 for item in self.catalogue))


def _source(user: str, place: int) -> str:
    return f"user {user} item {place + 1}"


def source_of(
    sides: Sides,
    report: DataReport,
    *,
    rows: Rows,
    catalogue: Sequence[str] | None,
    named_items: NamedItems | None = None,
    max_length: int,
    on_overflow: Overflow,
    on_problem: OnProblem = "error",
    shuffle: bool,
) -> DataSource:
    """What a run trains on (`rows`), validates and tests.

    Args:
        catalogue: where responses are written as ids.
        named_items: where they are written as names.
        max_length: tokens of prompt and response together.
    """
    train = sides.train if rows == "preferences" else sides.sequences
    report.num_train, report.num_validation, report.num_test = len(train), len(sides.validation), len(sides.test)
    return DataSource(
        train=train,
        validation=sides.validation,
        test=sides.test,
        demonstrations=sides.sequences if catalogue is not None else chosen_demonstrations(sides.train),
        max_length=max_length,
        on_overflow=on_overflow,
        shuffle=shuffle,
        report=report,
        on_problem=on_problem,
        classes=None if catalogue is None else tuple(catalogue),
        named_items=named_items,
    )
