"""Which pairs an order of responses gives."""

from collections.abc import Sequence
from typing import Literal

PairsRule = Literal["all", "adjacent", "best_vs_rest"]


def rank(scores: Sequence[float], pairs: PairsRule) -> tuple[tuple[int, int], ...]:
    """(better, worse) index pairs; equal scores form levels, and give no pair within a level.

    `all`: every two levels. `adjacent`: each level with the next lower one. `best_vs_rest`: the top level with
    every other. Order of the responses in the file does not matter beyond the order of the pairs.

    >>> rank([1.0, 3.0, 2.0], "all"), rank([1.0, 3.0, 2.0], "adjacent"), rank([1.0, 3.0, 2.0], "best_vs_rest")
    (((1, 2), (1, 0), (2, 0)), ((1, 2), (2, 0)), ((1, 2), (1, 0)))
    """
    levels = sorted(set(scores), reverse=True)
    members = [[index for index, score in enumerate(scores) if score == level] for level in levels]
    level_pairs = [(high, low) for high in range(len(levels)) for low in range(high + 1, len(levels))]
    if pairs == "adjacent":
        level_pairs = [(high, low) for high, low in level_pairs if low == high + 1]
    elif pairs == "best_vs_rest":
        level_pairs = [(high, low) for high, low in level_pairs if high == 0]
    return tuple((better, worse) for high, low in level_pairs for better in members[high] for worse in members[low])


def rank_positions(order: Sequence[int], pairs: PairsRule) -> tuple[tuple[int, int], ...]:
    """(better, worse) index pairs of responses in a complete `order`, best first.

    >>> rank_positions((2, 0, 1), "adjacent")
    ((2, 0), (0, 1))
    """
    of_places = rank([-float(place) for place in range(len(order))], pairs)
    return tuple((order[better], order[worse]) for better, worse in of_places)
