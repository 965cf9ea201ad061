"""How data says that something is wrong: what, where, and what to do."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dpo_lab.errors import UserError

NUM_SHOWN = 20


class DataError(UserError):
    """Data cannot be used as it stands. The message says what is wrong, where, and what to do."""


class RowError(Exception):
    """One row cannot become an example. `reason` is a key of `dpo_lab.data.report.REASONS`."""

    def __init__(self, reason: str, column: str | None, what: str):
        super().__init__(what)
        self.reason = reason
        self.column = column
        self.what = what


@dataclass(frozen=True, slots=True)
class Problem:
    """A `RowError` and the place of its row."""

    source: str
    reason: str
    column: str | None
    what: str

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column else ""
        return f"{self.source}{column}: {self.what} [{self.reason}]"


def problems_error(problems: Sequence[Problem], fix: str) -> DataError:
    """One error for all `problems`: how many by reason, the first `NUM_SHOWN` with their places, then `fix`."""
    counts = Counter(problem.reason for problem in problems)
    summary = ", ".join(f"{num} {reason}" for reason, num in counts.most_common())
    shown = "\n".join(f"  {problem}" for problem in problems[:NUM_SHOWN])
    more = f"\n  ... and {len(problems) - NUM_SHOWN} more" if len(problems) > NUM_SHOWN else ""
    rows = "1 row" if len(problems) == 1 else f"{len(problems)} rows"
    return DataError(f"{rows} cannot be used ({summary}):\n{shown}{more}\n{fix}")
