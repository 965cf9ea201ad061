"""How data says that something is wrong: what, where, and what to do."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dpo_lab.data.reasons import REASONS
from dpo_lab.errors import UserError

NUM_SHOWN = 4


class DataError(UserError):
    """Data cannot be used as it stands. The message says what is wrong, where, and what to do."""


class RowError(Exception):
    """One row cannot become an example. `reason` is a key of `dpo_lab.data.reasons.REASONS`."""

    def __init__(self, reason: str, column: str | None, what: str, excerpt: str = ""):
        super().__init__(what)
        self.reason = reason
        self.column = column
        self.what = what
        self.excerpt = excerpt


@dataclass(frozen=True, slots=True)
class Problem:
    """A `RowError` and the place of its row; `excerpt` shows a little of what stands there."""

    source: str
    reason: str
    column: str | None
    what: str
    excerpt: str = ""

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column else ""
        found = f": {self.excerpt}" if self.excerpt and self.excerpt not in self.what else ""
        return f"{self.source}{column}: {self.what}{found}"


def problems_error(problems: Sequence[Problem], fix: str) -> DataError:
    """One error for all `problems`: how many by reason, of each the first `NUM_SHOWN` with their places, then `fix`."""
    counts = Counter(problem.reason for problem in problems)
    summary = ", ".join(f"{num} {reason}" for reason, num in counts.most_common())
    rows = "1 row" if len(problems) == 1 else f"{len(problems)} rows"
    lines = [f"{rows} cannot be used ({summary}):"]
    for reason, num in counts.most_common():
        lines.append(f"  {num} {reason}: {REASONS[reason].text}")
        same = [problem for problem in problems if problem.reason == reason]
        lines += [f"    {problem}" for problem in same[:NUM_SHOWN]]
        lines += [f"    ... and {num - NUM_SHOWN} more"] * (num > NUM_SHOWN)
        lines += [f"    {REASONS[reason].fix}"] * bool(REASONS[reason].fix)
    return DataError("\n".join([*lines, fix]))
