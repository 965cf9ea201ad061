"""Which wrong classes of a labelled text are rejected: the declared preference function of `data=labelled`."""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Literal

Preference = Literal["uniform", "class_weighted", "confusion_weighted"]

WrongWeights = Callable[[str], Mapping[str, float]]
"""The weight of every wrong class of a text, by its gold class; a class without weight, or of weight 0, is never
drawn."""


def draw_rejected(text: str, gold: str, weights: Mapping[str, float], num: int, seed: int) -> tuple[str, ...]:
    """`num` different classes other than `gold`, first drawn first; each draw in proportion to `weights` of those left.

    Every (seed, text, class) has a number u of its own, uniform in (0, 1), and the classes with the least -log(u) / w
    are taken (Efraimidis and Spirakis 2006, weighted sampling without replacement). So what is drawn for a text depends
    neither on the other rows nor on their order, and of more draws the first are those of fewer.

    >>> draw_rejected("a text", "sport", {"stocks": 1.0, "games": 0.0, "sport": 5.0}, 1, seed=0)
    ('stocks',)
    >>> draw_rejected("a text", "sport", {"stocks": 1.0, "games": 1.0}, 2, seed=0)
    ('games', 'stocks')

    Returns:
        Fewer than `num` where fewer wrong classes have a weight.
    """
    waits = {
        name: -math.log(_uniform(seed, text, name)) / weight
        for name, weight in weights.items()
        if name != gold and weight > 0
    }
    return tuple(sorted(waits, key=lambda name: (waits[name], name))[:num])


def _uniform(seed: int, text: str, name: str) -> float:
    digest = hashlib.blake2b(f"{seed}\n{name}\n{text}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64
