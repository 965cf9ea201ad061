"""How long prompts and responses are, and whether the longer response wins."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy

from dpo_lab.intervals import share

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
NUM_BINS = 40
NUM_GROUPS = 10


def summarize(lengths: Sequence[int]) -> dict[str, Any]:
    """Number, mean, quantiles, and a histogram whose bins are equally wide in the logarithm of the length."""
    if not lengths:
        return {"num": 0}
    values = numpy.asarray(lengths, dtype=float)
    edges = numpy.geomspace(max(1.0, values.min()), max(2.0, values.max()) + 1, NUM_BINS + 1)
    counts, _ = numpy.histogram(numpy.maximum(values, 1.0), edges)
    return {
        "num": len(values),
        "mean": float(values.mean()),
        "quantiles": {f"{quantile:g}": float(numpy.quantile(values, quantile)) for quantile in QUANTILES},
        "histogram": {"edges": edges.round(2).tolist(), "counts": counts.tolist()},
    }


def longer_wins(chosen: Sequence[int], rejected: Sequence[int], clusters: Sequence[Hashable]) -> dict[str, Any] | None:
    """How often the longer response of a pair is the chosen one, ties counted as one half; None without pairs.

    `by_difference` has the same for groups of pairs of about equal size, from much shorter to much longer: of each the
    mean of log(length of chosen or rejected, the longer one / the other) and the share in which the longer one wins.
    """
    won = [_won(a, b) for a, b in zip(chosen, rejected, strict=True)]
    whole = share(won, clusters)
    if whole is None:
        return None
    return {
        "share": whole.as_dict(),
        "num_ties": sum(a == b for a, b in zip(chosen, rejected, strict=True)),
        "by_difference": _by_difference(chosen, rejected, won, clusters),
    }


def _by_difference(
    chosen: Sequence[int], rejected: Sequence[int], won: Sequence[float], clusters: Sequence[Hashable]
) -> list[dict[str, Any]]:
    """Of pairs of unequal length."""
    ratios = [abs(math.log(max(1, a) / max(1, b))) for a, b in zip(chosen, rejected, strict=True)]
    unequal = sorted((index for index, ratio in enumerate(ratios) if ratio), key=ratios.__getitem__)
    groups = numpy.array_split(numpy.asarray(unequal, dtype=int), min(NUM_GROUPS, max(1, len(unequal) // 5)))
    found = []
    for group in groups:
        part = share([won[index] for index in group], [clusters[index] for index in group])
        if part is not None:
            found.append({"ratio": math.exp(float(numpy.mean([ratios[i] for i in group]))), **part.as_dict()})
    return found


def _won(chosen: int, rejected: int) -> float:
    return 0.5 if chosen == rejected else float(chosen > rejected)
