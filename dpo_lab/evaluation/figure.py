"""A number that was measured, never without its interval."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from dpo_lab import intervals

Interval = Literal["wilson", "student", "bootstrap", "bootstrap, reversed", "sandwich"]
"""How an interval was made.

* ``wilson``: of a mean of values in [0, 1]; Wilson's, for an effective number of values (`intervals.share`).
* ``student``: of a mean of values of any size; Student's t over clusters (`intervals.mean`).
* ``bootstrap``: percentiles of the figure over `NUM_DRAWS` draws of as many texts, with replacement (Efron 1979).
* ``bootstrap, reversed``: twice the figure less those percentiles (Davison and Hinkley 1997, section 5.2), for a figure
  that chance alone raises; from 0 where chance alone may well have made it.
* ``sandwich``: of a fitted coefficient, from its variance over clusters (Liang and Zeger 1986) and Student's t.
"""

NUM_DRAWS = 2000
BOOTSTRAP_SEED = 0


@final
@dataclass(frozen=True)
class Figure:
    """`num` values stand behind `value`, in `num_clusters` that are independent of each other: prompts, texts, users.

    `low` and `high` are the 95 % interval, made as `interval` says; nan where nothing is known of it.
    """

    value: float
    low: float
    high: float
    num: int
    num_clusters: int
    interval: Interval

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def text(self) -> str:
        """
        >>> Figure(0.5, 0.404, 0.596, 100, 100, "wilson").text()
        '0.5 [0.404, 0.596]'
        """
        interval = "" if math.isnan(self.low) else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.4g}{interval}"


def share_figure(values: Sequence[float], clusters: Sequence[Hashable]) -> Figure:
    """The mean of `values` in [0, 1], at least one; what is of one cluster may err together."""
    found = intervals.share(values, clusters)
    assert found is not None
    return Figure(*found, num_clusters=len(set(clusters)), interval="wilson")


def mean_figure(values: Sequence[float], clusters: Sequence[Hashable]) -> Figure:
    """The mean of `values` of any size, at least one; what is of one cluster may err together."""
    found = intervals.mean(values, clusters)
    assert found is not None
    return Figure(*found, num_clusters=len(set(clusters)), interval="student")


def bootstrap_figure(
    statistic: Callable[[np.ndarray], float],
    num: int,
    *,
    by_chance: Callable[[np.random.Generator], float] | None = None,
    highest: float = 1.0,
) -> Figure:
    """A figure of `num` independent values that is no mean of them.

    Args:
        statistic: takes how often each value was drawn, ``Int[num]``, to the figure.
        by_chance: of a figure that is a distance from 0 and that chance alone raises, as it does a calibration error:
            draws it as it would be if the truth were 0. Every draw adds to what chance has added already, so that plain
            percentiles would lie above the truth: they are reversed, and the interval begins at 0 where one in twenty
            of these draws is as large as the figure (consistency resampling, Bröcker and Smith 2007).
        highest: that it can be; the lowest is 0.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    value = statistic(np.ones(num, dtype=np.int64))
    if num == 1:  # every draw is the same
        return Figure(value, np.nan, np.nan, num, num, "bootstrap" if by_chance is None else "bootstrap, reversed")
    draws = (np.bincount(generator.integers(num, size=num), minlength=num) for _ in range(NUM_DRAWS))
    drawn = [statistic(times) for times in draws]
    low, high = (float(bound) for bound in np.percentile(drawn, [2.5, 97.5]))
    if by_chance is None:
        return Figure(value, low, high, num, num, "bootstrap")
    low, high = max(0.0, 2 * value - high), min(highest, max(value, 2 * value - low))
    if value <= np.percentile([by_chance(generator) for _ in range(NUM_DRAWS)], 95):
        low = 0.0
    return Figure(value, min(low, value), high, num, num, "bootstrap, reversed")


@final
@dataclass(frozen=True)
class Measured:
    """What was measured of one part of the data.

    `figures` by name; `rows`, one an example or sample; `details`: what is no single number. All values are plain.
    """

    figures: Mapping[str, Figure]
    rows: Sequence[Mapping[str, Any]]
    details: Mapping[str, Any]
