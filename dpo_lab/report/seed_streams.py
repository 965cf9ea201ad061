"""Which streams of random numbers really changed between the seeds of a cell, which could not, and what each moves.

A run records what each stream gave (``streams`` of run.json: hashes of the items of the first steps, of the initial
weights, of what dropout began with, of the first samples). So "another seed" is not taken at its word: a stream has
changed where its record has.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from dpo_lab.report.cells import Cell
from dpo_lab.report.content import Section, Table, Value
from dpo_lab.report.records import RunRecord
from dpo_lab.report.statistics import CONFIDENCE, Array
from dpo_lab.report.study import Study

Stream = Literal["order", "init", "dropout", "sampling"]
STREAMS: tuple[Stream, ...] = ("order", "init", "dropout", "sampling")

MEANING: dict[Stream, str] = {
    "order": "order of the data",
    "init": "initial weights that are trained",
    "dropout": "dropout, and random subsets of a loss",
    "sampling": "samples",
}
REST = "together, and the rest"
MOST_ROWS = 60


class Contribution(NamedTuple):
    """Spread of a metric where one stream alone changed: `sd` over `df` degrees of freedom, and its 95 % interval."""

    sd: float
    low: float
    high: float
    df: int


def streams_of(run: RunRecord) -> dict[str, str | None] | None:
    """What each stream gave, None where nothing was drawn from it; None in all for a run that did not record it."""
    found = run.info.get("streams")
    if not isinstance(found, Mapping) or not all(name in found for name in STREAMS):
        return None
    return {name: None if found[name] is None else str(found[name]) for name in STREAMS}


def says(cell: Cell, stream: Stream) -> str | None:
    """Whether `stream` has changed between the runs of `cell`, in words; None where too few runs recorded it."""
    known = [(run, streams) for run in cell.runs.values() if (streams := streams_of(run)) is not None]
    if len(known) < 2:
        return None
    found = {streams[stream] for _, streams in known}
    seeds = {str((run.info.get("seeds") or {}).get(stream)) for run, _ in known}
    if found == {None}:
        return "could not change: nothing was drawn from it"
    if len(found) == 1:
        return "could not change: the seed is another, the result the same" if len(seeds) > 1 else "was held fixed"
    windows = {str((run.info.get("streams") or {}).get("windows")) for run, _ in known}
    if stream == "order" and len(windows) == 1:
        return "changed inside of steps alone: the same items in each, so no more than rounding"
    return "changed"


def contributions(cell: Cell, metric: str) -> dict[Stream, Contribution]:
    """Of each stream that changed while all others stayed: the spread of the last value of `metric`.

    Runs that agree in all other streams are one group; variances are pooled over groups. Where streams act on each
    other, this holds what a stream does together with the settings of the others.
    """
    states = _states(cell, metric)
    found: dict[Stream, Contribution] = {}
    for at, stream in enumerate(STREAMS):
        groups: dict[tuple[str | None, ...], list[float]] = {}
        for state, value in states.items():
            groups.setdefault((*state[:at], *state[at + 1 :]), []).append(value)
        samples = [np.asarray(values) for values in groups.values() if len(values) > 1]
        df = sum(len(sample) - 1 for sample in samples)
        if df:
            squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
            found[stream] = spread(squares, df)
    return found


def spread(squares: float, df: int) -> Contribution:
    """Standard deviation of a sum of squares, and the interval that the chi-squared distribution gives it.

    >>> [round(value, 3) for value in spread(2.0, 2)[:3]]
    [1.0, 0.521, 6.285]
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = (float((squares / special.chdtri(df, p)) ** 0.5) for p in (tail, 1 - tail))
    return Contribution((squares / df) ** 0.5, low, high, df)


def components(cell: Cell, metric: str) -> dict[str, float] | None:
    """Variance of `metric` by stream, where every setting of two or more streams was crossed with every other.

    The random-effects analysis of variance with one run a combination: of a stream with n settings in N runs
    ``(MS - MS_rest) / (N / n)``, not below 0; what the streams do together, and whatever else differs, is the rest.
    None where the grid is not whole.
    """
    states = _states(cell, metric)
    levels = [list(dict.fromkeys(state[at] for state in states)) for at in range(len(STREAMS))]
    crossed = [at for at, found in enumerate(levels) if len(found) > 1]
    if len(crossed) < 2 or len(states) != prod(map(len, levels)):
        return None
    shape = [len(found) for found in levels]
    grid = np.asarray([states[combination] for combination in product(*levels)], dtype=np.float64).reshape(shape)
    squares = {at: _main_squares(grid, at) for at in crossed}
    df_rest = grid.size - 1 - sum(shape[at] - 1 for at in crossed)
    rest = max(float(((grid - grid.mean()) ** 2).sum()) - sum(squares.values()), 0.0) / df_rest
    found = {STREAMS[at]: max((squares[at] / (shape[at] - 1) - rest) * shape[at] / grid.size, 0.0) for at in crossed}
    return {**found, REST: rest}


def seed_streams_section(study: Study) -> Section:
    """What the seeds of this report moved, proved by the records of its runs."""
    title = "What the seeds moved"
    lines = list(_changes(study))
    if not lines:
        text = "No cell has two runs that recorded what their streams of random numbers gave."
        return Section("seed-streams", title, [text])
    columns = ("stream", "between the seeds of a cell", "cells", "such as")
    tables = [Table("streams", "what really changed", columns, lines, _note(study))]
    rows, alone = _spreads(study), _alone(study)
    paragraphs = [
        "Each run records hashes of what its streams gave: the items of its first steps, the weights that it began "
        "with, what dropout began with, the samples before the first update. A stream has changed where these differ, "
        "whatever the seeds say. Samples move no number of training: they are another stream's alone.",
        *alone,
    ]
    if rows:
        columns = ("cell", "stream", f"{study.metric}, sd", "low", "high", "degrees of freedom", "variance", "share")
        note = (
            "sd: spread where this stream alone changed, pooled over the settings of the others, with its 95 % "
            "interval. variance, share: by analysis of variance, where all settings of several streams were crossed; "
            f"what they do together is no stream's own ({REST})."
        )
        tables.append(Table("stream-spread", "what each stream contributes", columns, rows[:MOST_ROWS], note))
    elif not alone:
        paragraphs.append(
            "No stream changed alone, so nothing says what each contributes: seeds.order=1,2,3 with one seed does."
        )
    return Section("seed-streams", title, paragraphs, tables)


def _changes(study: Study) -> Iterator[list[Value]]:
    for stream in STREAMS:
        cells: dict[str, list[str]] = {}
        for cell in study.cells:
            if (words := says(cell, stream)) is not None:
                cells.setdefault(words, []).append(cell.label)
        for words, labels in cells.items():
            yield [f"{stream}: {MEANING[stream]}", words, len(labels), labels[0]]


def _note(study: Study) -> str:
    runs = [run for cell in study.cells for run in cell.runs.values()]
    num = sum(streams_of(run) is None for run in runs)
    return f"{num} of {len(runs)} runs recorded nothing of their streams." if num else ""


def _alone(study: Study) -> list[str]:
    """Whether one stream alone explains the spread over seeds, said once for all cells of which it is true."""
    cells: dict[Stream, list[str]] = {}
    for cell in study.cells:
        states = _states(cell, study.metric)
        moving: list[Stream] = [stream for at, stream in enumerate(STREAMS) if len({state[at] for state in states}) > 1]
        if len(moving) == 1:
            cells.setdefault(moving[0], []).append(cell.label)
    return [
        f"In {len(labels)} of {len(study.cells)} cells nothing that moves {study.metric} changed but the "
        f"{MEANING[stream]}: all of its spread over seeds is that."
        for stream, labels in cells.items()
    ]


def _spreads(study: Study) -> list[list[Value]]:
    rows: list[list[Value]] = []
    for cell in study.cells:
        variances = components(cell, study.metric) or {}
        total = sum(variances.values())
        for stream, one in contributions(cell, study.metric).items():
            rows.append([cell.label, stream, one.sd, one.low, one.high, one.df, *_share(variances, stream, total)])
        if REST in variances:
            rows.append([cell.label, REST, None, None, None, None, *_share(variances, REST, total)])
    return rows


def _share(variances: Mapping[str, float], name: Stream | str, total: float) -> list[Value]:
    if name not in variances:
        return [None, None]
    return [variances[name], variances[name] / total if total else None]


def _states(cell: Cell, metric: str) -> dict[tuple[str | None, ...], float]:
    """The last value of `metric` by what each stream gave; of runs that agree in all, the first.

    Samples are known by their seed, since what is drawn depends on the weights as well; they move their own curves
    alone.
    """
    found: dict[tuple[str | None, ...], float] = {}
    for run in cell.runs.values():
        streams, value = streams_of(run), run.last(metric)
        if streams is None or not np.isfinite(value):
            continue
        is_drawn = metric.startswith("samples/") and streams["sampling"] is not None
        drawn = str((run.info.get("seeds") or {}).get("sampling")) if is_drawn else None
        found.setdefault((streams["order"], streams["init"], streams["dropout"], drawn), value)
    return found


def _main_squares(grid: Array, axis: int) -> float:
    """Sum of squares of the means along `axis` around the mean of all."""
    others = tuple(at for at in range(grid.ndim) if at != axis)
    means = grid.mean(axis=others)
    return float(((means - grid.mean()) ** 2).sum()) * grid.size / grid.shape[axis]
