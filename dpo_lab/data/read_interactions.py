"""Who met which item when: read from rows, and thinned to what can be learnt from."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

from dpo_lab.data.columns import check_columns
from dpo_lab.data.errors import Problem, RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.data.named_files import label_of, rows_of
from dpo_lab.data.report import DataReport

COLUMNS = {
    "user": "whose history the row belongs to",
    "item": "what was met; a number or a text without white space",
    "time": "when: a number that grows",
    "rating": "how much it was liked, a number; needed where data.min_rating is set",
    "name": "of the item, in data.names_path",
}
"""Every column that is read, under our names."""

ALSO = {
    "user": ("userId", "user_id", "uid"),
    "item": ("itemId", "item_id", "movieId", "movie_id", "iid"),
    "time": ("timestamp", "ts"),
    "rating": ("stars", "score"),
    "name": ("title",),
}
"""Names that are understood without being mapped."""


class Interaction(NamedTuple):
    """One user met one item; `time` grows. `rating` is not a number where the data has none."""

    user: str
    item: str
    time: float
    rating: float
    source: str


@final
class InteractionReader:
    """Reads files one after the other. `problems` are rows that cannot be used, not yet counted."""

    def __init__(self, columns: Mapping[str, str], *, needs_rating: bool):
        """
        Raises:
            DataError: `columns` names something that nothing reads.
        """
        check_columns(columns, COLUMNS)
        self._columns = columns
        self._needs_rating = needs_rating
        self.problems: list[Problem] = []
        self.num_read = 0

    def read(self, paths: Sequence[str]) -> list[Interaction]:
        """Interactions in the order of the files."""
        found = []
        for path in paths:
            label = label_of(path, list(paths))
            for number, values in rows_of(path):
                self.num_read += 1
                source = f"{label} row {number}"
                try:
                    found.append(self._interaction(values, source))
                except RowError as problem:
                    self.problems.append(Problem(source, problem.reason, problem.column, problem.what, problem.excerpt))
        return found

    def names(self, path: str) -> dict[str, str]:
        """Name by item, of a file with both."""
        names = {}
        for number, values in rows_of(path):
            source = f"{path} row {number}"
            try:
                if isinstance(values, RowError):
                    raise values
                names[self._text(values, "item")] = self._text(values, "name")
            except RowError as problem:
                self.problems.append(Problem(source, problem.reason, problem.column, problem.what, problem.excerpt))
        return names

    def _interaction(self, values: Mapping[str, Any] | RowError, source: str) -> Interaction:
        if isinstance(values, RowError):
            raise values
        item = self._text(values, "item")
        if len(item.split()) != 1:
            raise RowError(
                "bad_item", self._column(values, "item"), "an item whose id holds white space", excerpt(item)
            )
        has_rating = self._needs_rating or self._find(values, "rating") is not None
        rating = self._number(values, "rating") if has_rating else math.nan
        return Interaction(self._text(values, "user"), item, self._number(values, "time"), rating, source)

    def _find(self, values: Mapping[str, Any], name: str) -> str | None:
        """The file's name of our column `name`; None where it has none."""
        if name in self._columns:
            return self._columns[name]
        return next((theirs for theirs in (name, *ALSO[name]) if theirs in values), None)

    def _column(self, values: Mapping[str, Any], name: str) -> str:
        column = self._find(values, name)
        if column is None or column not in values:
            asked = column or name
            raise RowError("missing_column", asked, f"no column {asked!r}", f"has {', '.join(map(str, values))}"[:200])
        return column

    def _text(self, values: Mapping[str, Any], name: str) -> str:
        column = self._column(values, name)
        value = values[column]
        if value is None or isinstance(value, list | dict | bool):
            raise RowError(
                "null_value" if value is None else "not_text", column, "no text and no number", excerpt(value)
            )
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        if not text:
            raise RowError("null_value", column, "nothing where an id or a name belongs")
        return text

    def _number(self, values: Mapping[str, Any], name: str) -> float:
        column = self._column(values, name)
        try:
            number = float(values[column])
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise RowError("bad_number", column, "no finite number", excerpt(values[column]))
        return number


def thin(
    interactions: Sequence[Interaction],
    report: DataReport,
    *,
    min_rating: float | None,
    min_user_items: int,
    min_item_users: int,
) -> dict[str, list[Interaction]]:
    """The history of every user that is left, oldest first; what is left out is counted.

    First go ratings below `min_rating`, then all but the first meeting of a user with an item; then, again and again
    until none is left, items that fewer than `min_item_users` users met and users who met fewer than `min_user_items`
    items (Kang and McAuley 2018, arXiv 1808.09781, keep users and items with 5). What happened at the same time stands
    in the order of the file.
    """
    ordered = sorted(interactions, key=lambda one: one.time)
    liked = [one for one in ordered if min_rating is None or one.rating >= min_rating]
    report.count("low_rating", len(ordered) - len(liked))
    first: dict[tuple[str, str], Interaction] = {}
    for one in liked:
        first.setdefault((one.user, one.item), one)
    report.count("repeated_interaction", len(liked) - len(first))
    left = list(first.values())
    while True:
        users = Counter(one.item for one in left)
        common = [one for one in left if users[one.item] >= min_item_users]
        report.count("rare_item", len(left) - len(common))
        items = Counter(one.user for one in common)
        kept = [one for one in common if items[one.user] >= min_user_items]
        report.count("short_history", len(common) - len(kept))
        if len(kept) == len(left):
            break
        left = kept
    histories: dict[str, list[Interaction]] = {}
    for one in left:
        histories.setdefault(one.user, []).append(one)
    return histories
