"""Examples in token space, and batches of them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dpo_lab.types import Encoded, PreferenceBatch

Kind = Literal["pairs", "chosen"]
"""What an item is: a pair, or a response to imitate."""

Collate = Callable[[Sequence[Encoded]], dict[str, Tensor]]
"""Lays out the responses of each group, in order, as the rows of one batch."""


class Item(NamedTuple):
    """What one unit of a batch size is. `chosen`, `rejected` index the responses of `example`; -1: no rejected."""

    example: int
    chosen: int
    rejected: int


def response_key(prompt: Sequence[int], response: Sequence[int]) -> tuple[int, int]:
    """128-bit hash of one response to one prompt, as two signed 64-bit integers.

    The length of the prompt is hashed first, so moving the boundary between the two changes the key.
    """
    digest = hashlib.blake2b(len(prompt).to_bytes(8, "little"), digest_size=16)
    digest.update(np.asarray(prompt, dtype="<i8").tobytes())
    digest.update(np.asarray(response, dtype="<i8").tobytes())
    raw = digest.digest()
    return int.from_bytes(raw[:8], "little", signed=True), int.from_bytes(raw[8:], "little", signed=True)


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded examples that fit, and the pairs of each: ``pairs[i]`` index ``encoded[i].responses``.

    An example without a pair is a demonstration: it has one response.
    """

    encoded: list[Encoded]
    pairs: list[tuple[tuple[int, int], ...]]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.encoded)

    def items(self, kind: Kind) -> list[Item]:
        """All items in order: each pair (`pairs`), or each distinct chosen response and demonstration (`chosen`)."""
        if kind == "pairs":
            return [Item(i, better, worse) for i, pairs in enumerate(self.pairs) for better, worse in pairs]
        return [Item(i, index, -1) for i in range(len(self)) for index in self._chosen(i)]

    def collate_items(self, items: Sequence[Item], collate: Collate) -> PreferenceBatch:
        """The batch of `items`. Rows are the distinct responses they use, those of one example adjacent.

        `chosen` has one row index an item, repeated where two pairs share their chosen response: so what a loss
        over `chosen` sees of a step does not depend on how the step is split into micro-batches.
        """
        used: dict[int, list[int]] = {}
        for item in items:
            responses = used.setdefault(item.example, [])
            responses.extend(index for index in item[1:] if index >= 0 and index not in responses)
        places = [(example, index) for example, indices in used.items() for index in indices]
        row = {place: number for number, place in enumerate(places)}
        number_of = {example: number for number, example in enumerate(used)}
        keys = [response_key(self.encoded[e].prompt, self.encoded[e].responses[i]) for e, i in places]
        pairs = [(row[i.example, i.chosen], row[i.example, i.rejected]) for i in items if i.rejected >= 0]
        return PreferenceBatch(
            inputs=collate([self._keep(example, indices) for example, indices in used.items()]),
            group=torch.tensor([number_of[example] for example, _ in places], dtype=torch.long),
            key=torch.tensor(keys, dtype=torch.long).reshape(-1, 2),
            pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
            chosen=torch.tensor([row[item.example, item.chosen] for item in items], dtype=torch.long),
        )

    def _chosen(self, index: int) -> list[int]:
        if not self.pairs[index]:
            return [0]
        return list(dict.fromkeys(chosen for chosen, _ in self.pairs[index]))

    def _keep(self, index: int, responses: Sequence[int]) -> Encoded:
        encoded = self.encoded[index]
        return replace(encoded, responses=tuple(encoded.responses[number] for number in responses))
