"""Texts that are almost the same: character shingles, MinHash, buckets of equal bands.

Broder 1997 (resemblance), Li, Owen and Zhang 2012 (one permutation: a single hash a shingle), Shrivastava and Li 2014
(empty bins borrow from the next one). Time and memory grow linearly with the number of texts: a signature is
about 0.1 ms a kilobyte, and within a bucket each text is compared with two others, not with all.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy
from numpy.typing import NDArray

from dpo_lab.data.text_notes import SHOWN

SHINGLE = 6
"""Characters."""

THRESHOLD = 0.8
"""Jaccard similarity of the sets of shingles from which on two texts are near duplicates."""

NUM_BANDS, ROWS_PER_BAND = 21, 6
"""Two texts of similarity s share a bucket with probability 1 - (1 - s^6)^21: 0.998 at 0.8, 0.28 at 0.5."""

_NUM_BITS = 7
NUM_BINS = 2**_NUM_BITS
_WORTH_A_LOOK = THRESHOLD - 0.2
_BASE = numpy.uint64(0x9E3779B97F4A7C15)
_EDGES = numpy.arange(NUM_BINS, dtype=numpy.uint64) << numpy.uint64(64 - _NUM_BITS)
_PLACES = numpy.arange(NUM_BINS)
_CACHED = 20_000

Hashes = NDArray[numpy.uint64]


def near_duplicates(texts: Sequence[str]) -> list[list[int]]:
    """Groups of two or more texts that are linked by near-duplication, as ascending indices, the largest first.

    Texts that are equal are near duplicates. Case and white space do not count. Of texts that show images
    (`with_images`) only those that show the same ones are compared.
    """
    same: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        same.setdefault(text.partition(SHOWN)[2], []).append(index)
    groups = [
        [indices[place] for place in group]
        for indices in same.values()
        for group in _near([texts[index] for index in indices])
    ]
    return sorted(groups, key=len, reverse=True)


def _near(texts: Sequence[str]) -> list[list[int]]:
    """What `near_duplicates` gives, of texts that show the same."""
    signatures = numpy.stack([signature(text) for text in texts]) if texts else numpy.empty((0, NUM_BINS), numpy.uint32)
    parent = list(range(len(texts)))
    seen: set[tuple[int, int]] = set()
    for band in range(NUM_BANDS):
        keys = signatures[:, band * ROWS_PER_BAND : (band + 1) * ROWS_PER_BAND]
        for one, other in _bucket_mates(numpy.ascontiguousarray(keys)):
            if (one, other) in seen or _root(parent, one) == _root(parent, other):
                continue
            seen.add((one, other))
            agreement = float((signatures[one] == signatures[other]).mean())
            if agreement >= _WORTH_A_LOOK and similarity(texts[one], texts[other]) >= THRESHOLD:
                parent[_root(parent, other)] = _root(parent, one)
    groups: dict[int, list[int]] = {}
    for index in range(len(texts)):
        groups.setdefault(_root(parent, index), []).append(index)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group))


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of the sets of shingles, in [0, 1].

    >>> similarity("the same  text", "The same text"), similarity("abcdefg", "abcdefh")
    (1.0, 0.333...)
    """
    a, b = _shingles(one), _shingles(other)
    both = len(numpy.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def signature(text: str) -> NDArray[numpy.uint32]:
    """`NUM_BINS` numbers, of which two texts share about as large a part as their similarity."""
    hashes = _shingles(text)
    first = numpy.searchsorted(hashes, _EDGES)
    is_filled = numpy.append(first[1:], len(hashes)) > first
    # An empty bin takes what the next filled one holds, with its distance mixed in.
    filled = numpy.flatnonzero(is_filled)
    source = filled[numpy.searchsorted(filled, _PLACES) % len(filled)]
    distance = (source - _PLACES) % NUM_BINS
    return (hashes[first[source]] + distance.astype(numpy.uint64) * _BASE).astype(numpy.uint32)


@lru_cache(maxsize=_CACHED)
def _shingles(text: str) -> Hashes:
    """Sorted distinct hashes of all runs of `SHINGLE` characters; of a shorter text, one."""
    plain = " ".join(text.casefold().split())
    codes = numpy.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=numpy.uint32).astype(numpy.uint64)
    width = max(1, min(SHINGLE, len(codes)))
    hashes = numpy.zeros(max(1, len(codes) - width + 1), dtype=numpy.uint64)
    for place in range(min(width, len(codes))):
        hashes = hashes * _BASE + codes[place : place + len(hashes)] + numpy.uint64(1)
    return numpy.unique(_mix(hashes))


def _mix(values: Hashes) -> Hashes:
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return values ^ (values >> numpy.uint64(31))


def _bucket_mates(keys: NDArray[numpy.uint32]) -> list[tuple[int, int]]:
    """Pairs of rows with equal keys: of each bucket every row with the first and with the one before it."""
    rows = keys.view(numpy.dtype((numpy.void, keys.dtype.itemsize * keys.shape[1]))).ravel()
    _, bucket = numpy.unique(rows, return_inverse=True)
    order = numpy.argsort(bucket, kind="stable")
    mates, first = [], 0
    for place in range(1, len(order)):
        if bucket[order[place]] != bucket[order[first]]:
            first = place
            continue
        mates.append((int(order[first]), int(order[place])))
        if place - 1 > first:
            mates.append((int(order[place - 1]), int(order[place])))
    return mates


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index
