"""The values of one row under our names, checked one by one."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dpo_lab.data.errors import DataError, RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.data.images import Images, RowImages
from dpo_lab.data.suggest import nearest_column

COLUMNS = {
    "prompt": "text or chat messages",
    "conversations": "ShareGPT's name for a prompt of chat messages; alone or with label, the whole chat",
    "messages": "alone or with label: the whole chat, whose last turn is the response",
    "chosen": "the better response; or a whole conversation or transcript, where there is no prompt",
    "rejected": "the worse response, likewise; or a list of responses that are all worse",
    "responses": "a list of responses, instead of chosen and rejected",
    "scores": "of responses: one number each, larger is better",
    "ranked": "a list of responses, best first, where there are no scores",
    "response": "a single response, judged by label; without any judgement it is to be imitated",
    "label": "whether that response is desirable: true or false, 1 or 0",
    "chosen_score": "reward of chosen, a number",
    "rejected_score": "reward of rejected, a number; a list where rejected is one",
    "images": "of a prompt: the image that it shows, or a list of them; paths, or pictures inside of the file",
    "image": "another name for that",
    "probability": "how likely chosen is the better one, in [0, 1]; a list where rejected is one",
}
"""Every column that is read."""

JUDGEMENTS = (
    *("ranked", "chosen", "rejected", "responses", "label"),
    *("scores", "chosen_score", "rejected_score", "probability"),
)
"""Columns that say, or number, which response is better."""

LABEL_WORDS = {"true": 1, "false": 0, "1": 1, "0": 0}


class Row:
    """One row of a file under our names. It remembers which of the file's columns were asked for."""

    def __init__(self, values: Mapping[str, Any], columns: Mapping[str, str], images: Images | None = None):
        """
        Args:
            values: name of a column -> value.
            columns: our name (a key of `COLUMNS`) -> the file's name, where they differ.
            images: finds those of the row; None finds none.

        Raises:
            RowError: `missing_column`, for a name in `columns` that the row lacks.
        """
        gone = [theirs for theirs in columns.values() if theirs not in values]
        if gone:
            raise _missing(gone[0], values)
        self._values, self._columns = values, columns
        self._read_as: dict[str, str] = {}
        self.images = RowImages(images or Images(None, None))

    @property
    def read(self) -> set[str]:
        """The file's columns that were asked for."""
        return set(self._read_as)

    def __contains__(self, name: str) -> bool:
        return self._columns.get(name, name) in self._values

    def has(self, name: str) -> bool:
        """Whether there is a value. A file of several schemas gives each row all columns, with nulls."""
        return name in self and self._values[self._columns.get(name, name)] is not None

    def judgement_elsewhere(self) -> tuple[str, str] | None:
        """(our name, the file's) of a judgement that seems to stand in a column that nothing reads; None: in none.

        A name that is like `label` with values of a label, or names like `chosen` and `rejected` beside each other.
        """
        taken = {self._columns.get(name, name) for name in COLUMNS}
        like_label, like_chosen = _like_judgements(tuple(str(column) for column in self._values if column not in taken))
        if like_label is not None and is_label(self._values[like_label]):
            return "label", like_label
        return None if like_chosen is None else ("chosen", like_chosen)

    def __getitem__(self, name: str) -> Any:
        """
        Raises:
            RowError: `missing_column`.
            DataError: the column was read under another of our names already, so that one of the two is wrong.
        """
        if name not in self:
            raise _missing(name, self._values)
        theirs = self._columns.get(name, name)
        if (other := self._read_as.setdefault(theirs, name)) != name:
            raise DataError(
                f"data.columns: the file's column {theirs!r} would be read twice, as {other} and as {name}. Give each "
                "of our names a column of its own."
            )
        return self._values[theirs]


def read_numbers(value: Any, column: str, num: int) -> tuple[float, ...]:
    """`num` finite numbers, or their text, as a CSV has them; a single one may stand for a list of one.

    Raises:
        RowError: `bad_scores`.
    """
    numbers = [_number(each) for each in (value if isinstance(value, list) else [value])]
    known = tuple(number for number in numbers if number is not None)
    if len(numbers) != num or len(known) != num:
        raise RowError("bad_scores", column, f"{excerpt(value)} is not {num} finite number{'s' * (num > 1)}")
    return known


def read_probabilities(value: Any, column: str, num: int) -> tuple[float, ...]:
    """`num` numbers in [0, 1], or their text; a single one may stand for a list of one.

    Raises:
        RowError: `bad_probability`.
    """
    numbers = [_number(each) for each in (value if isinstance(value, list) else [value])]
    known = tuple(number for number in numbers if number is not None and 0 <= number <= 1)
    if len(numbers) != num or len(known) != num:
        raise RowError("bad_probability", column, f"{excerpt(value)} is not {num} number{'s' * (num > 1)} in [0, 1]")
    return known


def is_label(value: Any) -> bool:
    """Whether `read_label` reads it."""
    if isinstance(value, str):
        return value.strip().lower() in LABEL_WORDS
    return isinstance(value, int | float) and value in (0, 1)


def read_label(value: Any, column: str) -> int:
    """1 (desirable) or 0, from true, false, 1 or 0, or one of these words as text, as a CSV has them.

    Raises:
        RowError: `bad_label`.
    """
    if not is_label(value):
        unjudged = "; demonstrations, which have no label, go into a file without that column" if not value else ""
        raise RowError("bad_label", column, f"{excerpt(value)} is none of true, false, 1, 0{unjudged}")
    return LABEL_WORDS[value.strip().lower()] if isinstance(value, str) else int(value)


def _number(value: Any) -> float | None:
    """A finite number, or the text of one; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


@lru_cache
def _like_judgements(found: tuple[str, ...]) -> tuple[str | None, str | None]:
    """What of `found` may stand for label; and for chosen, if something else may stand for rejected."""
    chosen, rejected = nearest_column("chosen", found), nearest_column("rejected", found)
    return nearest_column("label", found), chosen if rejected not in (None, chosen) else None


def _missing(name: str, values: Mapping[str, Any]) -> RowError:
    nearest = nearest_column(name, values)
    asked = f"; the nearest is {nearest!r}" if nearest else ""
    return RowError("missing_column", name, f"no column {name!r}{asked}", f"has {', '.join(map(str, values))}"[:200])
