"""A short hash of each row of the data, by which a row that has changed is found again."""

import hashlib
from collections.abc import Sequence
from dataclasses import fields

from dpo_lab.data.source import DataSource
from dpo_lab.types import Example

DIGITS = 8
"""Hex digits of a row's hash."""

PLACES = frozenset({"source", "images"})
"""Fields of an example that say where something lies. What an image shows is said by the messages of the prompt."""


def parts_of(source: DataSource) -> dict[str, list[Example]]:
    """Everything that the hash of the data is made of, by name."""
    return {**source.sets, "demonstrations": source.demonstrations}


def row_fingerprints(source: DataSource) -> dict[str, str]:
    """Of each part of the data, the hashes of its rows in order, `DIGITS` hex digits each, without separators."""
    return {name: "".join(map(row_fingerprint, rows)) for name, rows in parts_of(source).items()}


def row_fingerprint(example: Example) -> str:
    """Of what one row says: texts and judgements, not where it came from.

    >>> row = Example("2 + 2 =", (" 4", " 5"), ((0, 1),), source="a.jsonl row 1")
    >>> row_fingerprint(row)
    '186903c3'
    """
    content = tuple(getattr(example, field.name) for field in fields(example) if field.name not in PLACES)
    return hashlib.blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=DIGITS // 2).hexdigest()


def changed_rows(then: str, rows: Sequence[Example]) -> tuple[list[tuple[int, Example]], int]:
    """The rows, with their numbers from 0, that were not there `then`; and how many of then are gone.

    Args:
        then: one part of what `row_fingerprints` gave.
    """
    left: dict[str, int] = {}
    for start in range(0, len(then), DIGITS):
        digest = then[start : start + DIGITS]
        left[digest] = left.get(digest, 0) + 1
    new = []
    for number, example in enumerate(rows):
        digest = row_fingerprint(example)
        if left.get(digest):
            left[digest] -= 1
        else:
            new.append((number, example))
    return new, sum(left.values())
