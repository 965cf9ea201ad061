"""Rows of a cache that are computed apart from training, in batches of about one size."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from dpo_lab.types import Encoded, ImageFile

BATCH_TOKENS = 4096
"""Tokens of one forward pass, padding included; a longer row is a batch of its own."""

_Prompt = tuple[tuple[int, ...], tuple[ImageFile, ...]]


class Row(NamedTuple):
    """A response to the prompt of `group`, and the 128-bit hash of the two as two integers."""

    group: Encoded
    response: tuple[int, ...]
    key: tuple[int, int]

    @property
    def width(self) -> int:
        return len(self.group.prompt) + len(self.response)


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """`rows` in batches of about `BATCH_TOKENS`: longest first, the responses to one prompt side by side.

    Rows of like length share a batch, which pads little; the largest need of memory comes first.
    """
    by_prompt: dict[_Prompt, list[Row]] = {}
    for row in rows:
        by_prompt.setdefault(_prompt(row), []).append(row)
    groups = sorted(by_prompt.values(), key=lambda group: -max(row.width for row in group))
    batch: list[Row] = []
    width = 0
    for row in (row for group in groups for row in group):
        width = max(width, row.width)
        if batch and width * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch, width = [], row.width
        batch.append(row)
    if batch:
        yield batch


def as_groups(rows: Sequence[Row]) -> list[Encoded]:
    """What a policy collates: each prompt once for the rows that stand side by side behind it, order kept."""
    sides = [list(side) for _, side in groupby(rows, key=_prompt)]
    return [replace(side[0].group, responses=tuple(row.response for row in side)) for side in sides]


def _prompt(row: Row) -> _Prompt:
    return row.group.prompt, row.group.images
