"""Items become one batch: rows, and the index views that say what was judged of them."""

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.view import View
from dpo_lab.types import Encoded, ImageFile, PreferenceBatch

Collate = Callable[[Sequence[Encoded]], dict[str, Tensor]]
"""Lays out the responses of each group, in order, as the rows of one batch."""


class Item(NamedTuple):
    """What one unit of a batch size is.

    `responses` index those of `example`, the better first; `pairs` are numbers of its pairs between them. `label` is
    of a response judged by itself, else -1. `borrowed` is another (example, response), to stand behind this prompt.
    """

    example: int
    responses: tuple[int, ...]
    pairs: tuple[int, ...] = ()
    label: int = -1
    borrowed: tuple[int, int] | None = None


_Place = tuple[int, Hashable]
"""Example, and what tells a row from the others of this example."""


class _Row(NamedTuple):
    response: tuple[int, ...]
    label: int
    score: float


def response_keys(group: Encoded) -> list[tuple[int, int]]:
    """`response_key` of each response of `group`, in order."""
    return [response_key(group.prompt, response, group.images) for response in group.responses]


def response_key(prompt: Sequence[int], response: Sequence[int], images: Sequence[ImageFile] = ()) -> tuple[int, int]:
    """128-bit hash of one response to one prompt, as two signed 64-bit integers.

    The length of the prompt is hashed first, so moving the boundary between the two changes the key. Of `images`
    their contents are hashed, wherever they lie.
    """
    digest = hashlib.blake2b(len(prompt).to_bytes(8, "little"), digest_size=16)
    digest.update(np.asarray(prompt, dtype="<i8").tobytes())
    digest.update(np.asarray(response, dtype="<i8").tobytes())
    for image in images:
        digest.update(bytes.fromhex(image.sha256))
    raw = digest.digest()
    return int.from_bytes(raw[:8], "little", signed=True), int.from_bytes(raw[8:], "little", signed=True)


def make_batch(
    encoded: Sequence[Encoded], judgements: Sequence[Judgement], items: Sequence[Item], collate: Collate, view: View
) -> PreferenceBatch:
    """The batch of `items`; rows of one example are adjacent, in the order of first use.

    Pairs of one example share the rows of the responses they share, but where `view` wants labels: there each item
    brings rows of its own, since a response may be chosen in one pair and rejected in another.

    * `pairs`: of the items; in a list, all pairs of the example between its responses; none of single labels;
    * `chosen`: one row an item, the first of its responses, repeated where items share it; of single labels, the
      desirable rows. So what a loss over `chosen` sees of a step does not depend on its micro-batches;
    * `ranking`, `labels`, `scores`, `win_probability`, `drift`: where `view` wants them, else None. A borrowed row
      (`drift`) is cut on the right to `view.max_length`, is not judged (label -1), has no score (not a number) and
      is in no pair.

    Scores and probabilities are float64, as the data gives them: a loss takes differences of scores, which float32
    would round (two rewards near 1000 to 6e-5); it casts the result to its own type.

    Raises:
        DataError: where a prompt leaves no room for a borrowed response.
    """
    rows = _Rows(encoded, judgements, view)
    items_places = [rows.add(number, item) for number, item in enumerate(items)]
    borrowed = [rows.borrow(item) for item in items] if "drift" in view.wanted else []
    number_of = rows.numbers()
    lines = [[number_of[place] for place in places] for places in items_places]
    pairs, probabilities = [], []
    for item, line in zip(items, lines, strict=True):
        judgement, row_of = judgements[item.example], dict(zip(item.responses, line, strict=True))
        for number in item.pairs:
            pairs.append([row_of[index] for index in judgement.pairs[number]])
            probabilities.append(_at(judgement.win_probabilities, number))
    is_chosen = [item.label == 1 or view.kind != "labels" for item in items]
    wanted = {
        "ranking": lambda: _pad(lines),
        "labels": lambda: torch.tensor([row.label for row in rows.in_order()], dtype=torch.long),
        "scores": lambda: torch.tensor([row.score for row in rows.in_order()], dtype=torch.float64),
        "win_probability": lambda: torch.tensor(probabilities, dtype=torch.float64),
        "drift": lambda: _indices([number_of[place] for place in borrowed if place is not None]),
    }
    groups = rows.groups()
    keys = [key for group in groups for key in response_keys(group)]
    prompts = [response_key(group.prompt, (), group.images) for group in groups]
    return PreferenceBatch(
        inputs=collate(groups),
        group=_indices([number for number, group in enumerate(groups) for _ in group.responses]),
        key=_indices(keys).reshape(-1, 2),
        prompt_key=_indices([prompts[number] for number, group in enumerate(groups) for _ in group.responses]).reshape(
            -1, 2
        ),
        pairs=_indices(pairs).reshape(-1, 2),
        chosen=_indices([line[0] for line, is_one in zip(lines, is_chosen, strict=True) if is_one]),
        **{name: make() for name, make in wanted.items() if name in view.wanted},
    )


class _Rows:
    """The rows of a batch, gathered by example."""

    def __init__(self, encoded: Sequence[Encoded], judgements: Sequence[Judgement], view: View):
        self._encoded, self._judgements = encoded, judgements
        self._view = view
        self._groups: dict[int, dict[Hashable, _Row]] = {}

    def add(self, number: int, item: Item) -> list[_Place]:
        """Places of the responses of `item`, the `number`-th of its batch."""
        group = self._groups.setdefault(item.example, {})
        labels = (1, 0) if self._view.kind == "pairs" else (item.label,) * len(item.responses)
        places: list[_Place] = []
        for index, label in zip(item.responses, labels, strict=True):
            mark = (index, number) if "labels" in self._view.wanted else index
            score = _at(self._judgements[item.example].scores, index)
            group.setdefault(mark, _Row(self._encoded[item.example].responses[index], label, score))
            places.append((item.example, mark))
        return places

    def borrow(self, item: Item) -> _Place | None:
        """_Place of the response that `item` has borrowed, cut to fit behind its prompt; the same one stands once."""
        if item.borrowed is None:
            return None
        example, index = item.borrowed
        response, num_prompt = self._encoded[example].responses[index], len(self._encoded[item.example].prompt)
        max_length = self._view.max_length
        if max_length is not None and self._encoded[item.example].kind == "tokens":
            if max_length <= num_prompt:
                raise DataError(
                    f"a prompt of {num_prompt} tokens leaves no room for a borrowed response in "
                    f"data.max_length={max_length}. Raise it."
                )
            response = response[: max_length - num_prompt]
        mark = ("borrowed", response)
        self._groups[item.example].setdefault(mark, _Row(response, -1, math.nan))
        return item.example, mark

    def numbers(self) -> dict[_Place, int]:
        places = ((example, mark) for example, group in self._groups.items() for mark in group)
        return {place: number for number, place in enumerate(places)}

    def in_order(self) -> list[_Row]:
        return [row for group in self._groups.values() for row in group.values()]

    def groups(self) -> list[Encoded]:
        """Each prompt with the responses that stand behind it."""
        return [
            replace(self._encoded[example], responses=tuple(row.response for row in group.values()))
            for example, group in self._groups.items()
        ]


def _indices(values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.long)


def _pad(lines: Sequence[Sequence[int]]) -> Tensor:
    width = max(len(line) for line in lines)
    return _indices([[*line, *[-1] * (width - len(line))] for line in lines])


def _at(values: Sequence[float] | None, index: int) -> float:
    return math.nan if values is None else values[index]
