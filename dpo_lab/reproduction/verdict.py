"""Whether a run that was made again is the same: to the bit, nearly, or not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from dpo_lab.reproduction.gaps import (
    Compared,
    Gap,
    Rows,
    gaps_of_predictions,
    gaps_of_rows,
    gaps_of_samples,
    gaps_of_weights,
)

TOLERANCE = 1e-3
"""Numbers agree that differ by no more than this share of the largest value of their curve."""

Kind = Literal["bit-identical", "within tolerance", "diverged"]
EXIT_CODES: dict[Kind, int] = {"bit-identical": 0, "within tolerance": 3, "diverged": 4}


@final
@dataclass(frozen=True)
class Verdict:
    """`gap` is where the runs diverged, or else the largest difference; `first` is the first difference of all.

    `compared` says what was looked at, `notes` what else is to be told.
    """

    kind: Kind
    compared: str
    gap: Gap | None = None
    first: Gap | None = None
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.kind]

    @property
    def line(self) -> str:
        """What it says, in one line."""
        if self.gap is None:
            return f"bit-identical: {self.compared}"
        if self.kind == "within tolerance":
            return f"within tolerance: the largest difference is {self.gap.share:.1e} of its curve, {self.gap}"
        return f"diverged at step {self.gap.step} in {self.gap.name}: {self.gap.values()}"


def judge(
    then: Path, now: Path, rows: Rows, rows_now: Rows, *, last_step: int, is_whole: bool, tolerance: float = TOLERANCE
) -> Verdict:
    """Compare the run in the folder `then`, whose metrics are `rows`, with the one in `now`, up to `last_step`.

    Samples and weights at the end decide where nothing else differs; otherwise they follow from what does.

    Args:
        is_whole: whether both runs came to their end, so that samples and weights can be compared.

    Raises:
        UserError: a file of either run cannot be read.
    """
    curves = gaps_of_rows(rows, rows_now, last_step)
    predictions = gaps_of_predictions(then, now, last_step)
    parts = {"rows of metrics.jsonl": curves, "predictions": predictions}
    if is_whole:
        parts |= {"samples": gaps_of_samples(then, now, last_step), "tensors": gaps_of_weights(then, now, last_step)}
    compared = ", ".join(f"{part.num} {name}" for name, part in parts.items() if part.num)
    gaps, notes = curves.gaps + predictions.gaps, _new_curves(rows, rows_now)
    if gaps:
        notes += _at_the_end(parts)
    else:
        gaps = [gap for part in parts.values() for gap in part.gaps]
    return _decide(gaps, compared, notes, tolerance)


def _decide(gaps: Sequence[Gap], compared: str, notes: list[str], tolerance: float) -> Verdict:
    """Curves that jump where a number crosses a line (accuracies, what samples say) decide only before anything else
    differs: after that, rounding alone may put one pair of many, or one token, on the other side."""
    if not gaps:
        return Verdict("bit-identical", compared, notes=tuple(notes))
    gaps = sorted(gaps, key=lambda gap: gap.step)
    first_smooth = next((gap.step for gap in gaps if not _jumps(gap)), math.inf)
    deciding = [gap for gap in gaps if not _jumps(gap) or gap.step < first_smooth]
    apart = [gap for gap in deciding if not gap.share <= tolerance]
    if apart:
        worst = max((gap for gap in apart if gap.step == apart[0].step), key=_size)
        return Verdict("diverged", compared, worst, gaps[0], tuple(notes))
    jumped = [gap for gap in gaps if gap not in deciding and not gap.share <= tolerance]
    if jumped:
        notes = [
            *notes,
            f"follows from rounding, since it jumps where a number crosses a line: {max(jumped, key=_size)}",
        ]
    return Verdict("within tolerance", compared, max(deciding, key=_size), gaps[0], tuple(notes))


def _jumps(gap: Gap) -> bool:
    return gap.name.endswith("/accuracies") or gap.name.startswith("samples")


def _size(gap: Gap) -> float:
    return math.inf if math.isnan(gap.share) else gap.share


def _new_curves(rows: Rows, rows_now: Rows) -> list[str]:
    new = sorted({name for row in rows_now for name in row} - {name for row in rows for name in row})
    return [f"recorded now and not then, so not compared: {', '.join(new)}"] if new else []


def _at_the_end(parts: dict[str, Compared]) -> list[str]:
    notes = []
    if "samples" in parts and parts["samples"].gaps:
        notes.append(f"{parts['samples'].gaps[0].now:.0f} of {parts['samples'].num} samples differ")
    if "tensors" in parts and parts["tensors"].gaps:
        notes.append(f"weights at the end, the most different: {max(parts['tensors'].gaps, key=_size)}")
    return notes
