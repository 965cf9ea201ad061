"""Texts with a gold class, read from files: rows, and the classes that their labels name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from dpo_lab.data.errors import DataError, Problem, RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.data.messages import read_string
from dpo_lab.data.read_files import read_rows
from dpo_lab.data.read_hub import is_hub_name, read_hub_rows
from dpo_lab.data.row import Row
from dpo_lab.data.suggest import as_override, nearest_column

COLUMNS = {"text": "what is classified", "label": "its gold class: a name, or a number that counts classes from 0"}
"""Every column that is read."""


class LabelledText(NamedTuple):
    """One row: its text, its label as it stands there, and its place."""

    text: str
    label: str
    source: str


@final
@dataclass
class LabelledReader:
    """Reads files one after the other; `problems` are rows that cannot be used."""

    columns: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    num_read: int = 0
    columns_not_read: list[str] = field(default_factory=list)

    def read(self, name: str, label: str) -> list[LabelledText]:
        """Rows of one file or hub name.

        Args:
            label: what places of its rows begin with.

        Raises:
            DataError: if the file cannot be read, has no row, or lacks a column in every row.
        """
        local = Path(name).expanduser()
        rows = read_hub_rows(name) if not local.exists() and is_hub_name(name) else read_rows(local)
        read: list[LabelledText] = []
        problems: list[Problem] = []
        found: dict[str, None] = {}
        for number, values in rows:
            source = f"{label} row {number}"
            try:
                if isinstance(values, RowError):
                    raise values
                found.update(dict.fromkeys(map(str, values)))
                read.append(_read_row(Row(values, self.columns), source))
            except RowError as problem:
                column = self.columns.get(problem.column or "", problem.column)
                problems.append(Problem(source, problem.reason, column, problem.what, problem.excerpt))
        if not read and not problems:
            raise DataError(f"{name} has no row. Give a file that holds some.")
        if not read and all(problem.reason == "missing_column" for problem in problems):
            raise _misnamed(name, problems[0], list(found))
        self.problems += problems
        self.num_read += len(read) + len(problems)
        ours = {self.columns.get(column, column) for column in COLUMNS}
        self.columns_not_read = list(
            dict.fromkeys([*self.columns_not_read, *(column for column in found if column not in ours)])
        )
        return read


def _read_row(row: Row, source: str) -> LabelledText:
    text = read_string(row["text"], "text")
    if not text.strip():
        raise RowError("empty_prompt", "text", "the text is empty")
    label: Any = row["label"]
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    return LabelledText(text, read_string(label, "label").strip(), source)


def _misnamed(name: str, problem: Problem, found: list[str]) -> DataError:
    message = f"{name}: in every row, {problem.what}. Columns found: {', '.join(found)}."
    near = {ours: theirs for ours in COLUMNS if (theirs := nearest_column(ours, found)) is not None}
    mapping = {ours: theirs for ours, theirs in near.items() if ours != theirs}
    fix = {"text": "your_column", "label": "another_column"}
    if len(set(near.values())) == len(COLUMNS):
        fix = mapping or near  # our own names, where data.columns has led away from them
    return DataError(f"{message}\nMap our names to yours, as in {as_override(fix)}")


def find_classes(declared: str | Sequence[str] | None, rows: Sequence[LabelledText]) -> tuple[str, ...]:
    """The classes in their order: as declared, by a list or a file with a name a line; else the labels of `rows`.

    Those are sorted, by value where all are whole numbers.

    Raises:
        DataError: no such file; a name that stands twice; fewer than two classes.
    """
    if declared is None:
        labels = {row.label for row in rows}
        names = sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
        where = "the label column"
    elif isinstance(declared, str):
        names, where = _read_names(declared), declared
    else:
        names, where = list(declared), "data.classes"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"data.classes: {where} names {', '.join(twice)} twice. Give each class one name.")
    if len(names) < 2:
        raise DataError(
            f"data.classes: {where} holds {len(names)} class{'es' * (not names)}; there must be two or more."
        )
    return tuple(names)


def _read_names(file: str) -> list[str]:
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"data.classes: there is no file {file}. Give a file with a name a line, or a list of names.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"data.classes: {file} is not UTF-8. Save it as UTF-8.") from error
    return [line.strip() for line in lines if line.strip()]


def name_of(row: LabelledText, classes: Sequence[str]) -> str:
    """The class that the label of `row` is, or counts to, from 0.

    Raises:
        RowError: `unknown_class`.
    """
    if row.label in classes:
        return row.label
    if row.label.isdecimal() and int(row.label) < len(classes):
        return classes[int(row.label)]
    known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    raise RowError("unknown_class", "label", f"{excerpt(row.label)} is none of the {len(classes)} classes: {known}")
