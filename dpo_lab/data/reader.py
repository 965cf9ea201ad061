"""Reads files of preference data one after the other, and gathers what there is to say of all of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

from dpo_lab.data.errors import DataError, Problem, RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.data.images import Images
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.rank import PairsRule
from dpo_lab.data.read_files import read_rows
from dpo_lab.data.read_hub import is_hub_name, read_hub_rows
from dpo_lab.data.read_row import read_row
from dpo_lab.data.report import DataReport
from dpo_lab.data.row import COLUMNS, Row
from dpo_lab.data.suggest import ELSEWHERE, as_override, mappings
from dpo_lab.types import Example

MISNAMED = {"missing_column", "no_prompt"}
NUM_SAMPLES = 5
MESSAGE_KEYS = {"role", "content", "from", "value"}


class _Suggestion(NamedTuple):
    """A value of ``data.columns``, and whether rows read by it are only imitated."""

    mapping: Mapping[str, str]
    is_demonstration: bool = False


@final
class Reader:
    """Reads files and remembers what is wrong with them.

    `problems` are rows that cannot be used; `dropped` are sound rows that say nothing; both are not yet counted in
    `report`.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        pairs: PairsRule,
        *,
        image_folder: str | None = None,
        image_store: Path | None = None,
    ):
        """
        Args:
            image_folder: where paths of images begin; None: in the folder of each file.
            image_store: where images are kept that lie inside of a file.
        """
        self.columns = columns
        self._image_folder = None if image_folder is None else Path(image_folder).expanduser()
        self._image_store = image_store
        self.pairs: PairsRule = pairs
        self.problems: list[Problem] = []
        self.dropped: list[Problem] = []
        self.report = DataReport()
        self._misnamed: list[dict[str, Any]] = []  # the first rows that lack a column
        self._any_read = False
        self._images: Images | None = None

    def read(self, name: str, label: str) -> list[Example]:
        """Examples of one file; what cannot be used goes to `problems`.

        Args:
            label: what places of its rows begin with.

        Raises:
            DataError: if the file cannot be read, has no row, or lacks a column in every row.
        """
        local = Path(name).expanduser()
        is_on_hub = not local.exists() and is_hub_name(name)
        rows = read_hub_rows(name) if is_on_hub else read_rows(local)
        self._images = Images(self._image_folder or (None if is_on_hub else local.parent), self._image_store)
        examples, problems, found, read = [], [], {}, set()
        num_rows = 0
        for number, values in rows:
            num_rows += 1
            source = f"{label} row {number}"
            try:
                if isinstance(values, RowError):
                    raise values
                found.update(dict.fromkeys(map(str, values)))
                row = Row(values, self.columns, self._images)
                examples.append(self._read_row(row, source))
                read |= row.read
                found.update(dict.fromkeys(_spare_message_keys(values, row.read)))
            except RowError as problem:
                known = self._place(problem, values, source)
                (self.dropped if problem.reason == "one_response" else problems).append(known)
        if not num_rows:
            raise DataError(f"{name} has no row. Give a file that holds some.")
        if len(problems) == num_rows and all(problem.reason in MISNAMED for problem in problems):
            raise self._misnamed_error(name, problems[0], list(found), num_rows)
        self.problems += problems
        if examples:
            self._any_read = True
            not_read = [column for column in found if column not in read]
            self.report.columns_not_read = list(dict.fromkeys(self.report.columns_not_read + not_read))
        self.report.num_read += num_rows
        return examples

    def advice(self) -> str:
        """What to do about rows that lack a column and would be read under other names; nothing where there is none."""
        suggestion = self._suggest()
        if suggestion is None:
            return ""
        if not self._any_read:
            return f"{_advise(suggestion)}\n"
        renamed = ", ".join(f"{theirs!r} to {ours!r}" for ours, theirs in suggestion.mapping.items())
        return f"Rows that lack a column have it under another name; rename it there: {renamed}\n" if renamed else ""

    def _read_row(self, row: Row, source: str) -> Example:
        reasons: list[str] = []
        example = read_row(row, self.pairs, source, reasons.append)
        for reason in reasons:
            self.report.count(reason, source=source)
        for reason in _doubts(example):
            self.report.count(reason, source=source)
        return example

    def _place(self, problem: RowError, values: Mapping[str, Any] | RowError, source: str) -> Problem:
        """`problem` with its place, the file's name of the column, and a little of what stands there."""
        shown, column = problem.excerpt, problem.column
        if not isinstance(values, RowError):
            if problem.reason in MISNAMED and len(self._misnamed) < NUM_SAMPLES:
                self._misnamed.append(dict(values))
            column = self.columns.get(column, column) if column else None
            if not shown:
                value = values.get(column) if column else None
                shown = excerpt(dict(values) if value is None else value)
        return Problem(source, problem.reason, column, problem.what, shown)

    def _misnamed_error(self, name: str, problem: Problem, found: list[str], num_rows: int) -> DataError:
        message = f"{name}: in every row, {problem.what}. Columns found: {', '.join(found)}."
        known = "\n".join(f"  {ours}: {meaning}" for ours, meaning in COLUMNS.items())
        for columns, fix in ELSEWHERE:
            if columns <= set(found):
                return DataError(f"{message}\n{fix}")
        suggestion = self._suggest()
        if suggestion is None and num_rows == 1 and self._misnamed and (fix := _wrapped(self._misnamed[0])):
            return DataError(f"{message}\n{fix}")
        if suggestion is None:
            suggestion = next((_Suggestion(named) for named in mappings(found) if named), None)
        if suggestion is not None:
            return DataError(f"{message}\n{_advise(suggestion)}")
        if Path(name).suffix.lower() in (".csv", ".tsv"):
            message += " They are what the first line says: does it name the columns?"
        return DataError(
            f"{message}\nNone of these is like a name of ours. Map our names to yours, as in "
            f"{as_override({'prompt': 'your_column'})}. Our names are:\n{known}"
        )

    def _suggest(self) -> _Suggestion | None:
        """A value of ``data.columns`` with which one of the rows that lack a column can be read."""
        for values in self._misnamed:
            for mapping in mappings(list(values)):
                try:
                    example = read_row(Row(values, mapping, self._images), self.pairs, "")
                except RowError:
                    continue
                if mapping != self.columns:
                    return _Suggestion(mapping, Judgement.of(example).is_demonstration)
        return None


def _doubts(example: Example) -> Iterator[str]:
    """What the numbers beside a pair say against it; reasons of `dpo_lab.data.reasons.REASONS`."""
    if example.ranking is not None and example.scores:
        if max(example.scores) > example.scores[0]:
            yield "score_against_pair"
        elif example.scores[0] in example.scores[1:]:
            yield "scores_of_a_tie"
    if any(probability < 0.5 for probability in example.win_probabilities or ()):
        yield "probability_against_pair"


def _advise(suggestion: _Suggestion) -> str:
    if not suggestion.mapping:
        return "They can be read under the names that they have: leave data.columns out."
    imitated = " (responses to imitate, with loss=sft, since nothing is judged)" if suggestion.is_demonstration else ""
    return f"Map our names to yours: {as_override(suggestion.mapping)}{imitated}"


def _spare_message_keys(values: Mapping[str, Any], read: set[str]) -> Iterator[str]:
    """Keys of chat messages that have a value and that nothing reads, as ``chosen[].tool_calls``."""
    for column in read:
        value = values[column]
        for message in value if isinstance(value, list) else ():
            if isinstance(message, dict) and not message.keys() <= MESSAGE_KEYS:
                spare = [key for key in message if key not in MESSAGE_KEYS and message[key] not in (None, "", [], {})]
                yield from (f"{column}[].{key}" for key in spare)


def _wrapped(values: Mapping[str, Any]) -> str:
    """What to do where the one row of a file holds all the rows inside of it."""
    lists = {str(name): value for name, value in values.items() if isinstance(value, list)}
    inside = [name for name, value in lists.items() if value and isinstance(value[0], dict)]
    if inside:
        return f"The rows seem to stand inside of {inside[0]!r}: write that list alone, as the whole of the file."
    if len(lists) == len(values) and len(lists) > 1:
        return "Each value is a list, so the file seems to hold columns: write a list of objects, one a row."
    return ""
