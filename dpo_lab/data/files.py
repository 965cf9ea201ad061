"""``data=files``: preference data from local files or from the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from dpo_lab.data.errors import DataError, Problem, RowError, problems_error
from dpo_lab.data.rank import PairsRule
from dpo_lab.data.read_files import read_rows
from dpo_lab.data.read_hub import is_hub_name, read_hub_rows
from dpo_lab.data.read_row import read_row
from dpo_lab.data.report import DataReport
from dpo_lab.data.row import COLUMNS, Row
from dpo_lab.data.source import DataSource, chosen_demonstrations
from dpo_lab.data.split import prompt_key, split_by_prompt
from dpo_lab.ranges import Fraction, NonNegativeInt, PositiveInt
from dpo_lab.types import Example


def files(
    *,
    path: str | list[str],
    validation_path: str | None = None,
    validation_fraction: Fraction = 0.05,
    split_seed: NonNegativeInt = 0,
    max_length: PositiveInt = 512,
    on_overflow: Literal["drop", "truncate", "error"] = "drop",
    on_problem: Literal["error", "drop"] = "error",
    shuffle: bool = True,
    columns: dict[str, str] | None = None,
    pairs: Literal["all", "adjacent", "best_vs_rest"] = "all",
) -> DataSource:
    """Read preference data.

    A row is one of: `prompt`, `chosen`, `rejected` as text or chat messages; `chosen` and `rejected` alone, as
    whole conversations or Human/Assistant transcripts; `conversations` with `chosen`, `rejected` (ShareGPT);
    `prompt`, `responses`, `scores`; `prompt`, `ranked`; `prompt`, `response`, `label`; `messages`, `label`. With
    chosen and rejected there may be `chosen_score`, `rejected_score` and `probability`, and rejected may be a list.

    Args:
        path: one or more files (.jsonl, .json, .csv, .parquet, each also .gz), or a hub name ``owner/name:split``.
        validation_path: a file or hub name to validate on; then nothing is split off. A training row whose prompt
            is in there too is kept and counted.
        validation_fraction: expected share of distinct prompts that is split off for validation, in [0, 1).
        split_seed: draws that split; the seed of the run does not.
        max_length: tokens of prompt and response together, at least 2.
        on_overflow: what happens to an example that is longer.
        on_problem: what happens to a row that cannot be used: all of them in one error, or dropped and counted.
        shuffle: whether each epoch has an order of its own.
        columns: our name -> the file's, where they differ: ``{prompt: question}``.
        pairs: which pairs a list gives, `ranked` or with `scores`: `all`, those `adjacent` in the order, or
            `best_vs_rest`; equal scores give none.

    Raises:
        DataError: for files or rows that cannot be used, with their places and what to do.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        raise DataError("data.path names no file.")
    _check_columns(columns or {})
    reader = _Reader(columns or {}, pairs)
    train = [example for name in paths for example in reader.read(name, _label(name, paths))]
    validation = reader.read(validation_path, _label(validation_path, paths)) if validation_path else []
    if reader.problems and on_problem == "error":
        raise problems_error(reader.problems, "Correct them, or drop and count them: data.on_problem=drop")
    report = reader.report
    for problem in reader.problems + reader.dropped:
        report.count(problem.reason, source=problem.source)
    for part, name in ((train, "data.path"), (validation, "data.validation_path")):
        if not part and (part is train or validation_path):
            raise problems_error(reader.problems + reader.dropped, f"No row of {name} is left.")
    if validation_path:
        _count_overlap(train, validation, report)
    else:
        train, validation = split_by_prompt(train, validation_fraction, split_seed)
    report.num_train, report.num_validation = len(train), len(validation)
    return DataSource(
        train=train,
        validation=validation,
        demonstrations=chosen_demonstrations(train),
        max_length=max_length,
        on_overflow=on_overflow,
        shuffle=shuffle,
        report=report,
        on_problem=on_problem,
    )


class _Reader:
    """Reads files one after the other and gathers what there is to say of all of them.

    `problems` are rows that cannot be used; `dropped` are sound rows that say nothing, counted in `report`.
    """

    def __init__(self, columns: Mapping[str, str], pairs: PairsRule):
        self.columns = columns
        self.pairs: PairsRule = pairs
        self.problems: list[Problem] = []
        self.dropped: list[Problem] = []
        self.report = DataReport()

    def read(self, name: str, label: str) -> list[Example]:
        """Examples of one file; what cannot be used goes to `problems`.

        Raises:
            DataError: if the file cannot be read, has no row, or lacks a column in every row.
        """
        local = Path(name).expanduser()
        rows = read_hub_rows(name) if not local.exists() and is_hub_name(name) else read_rows(local)
        examples, problems, found, read = [], [], {}, set()
        num_rows = 0
        for number, values in rows:
            num_rows += 1
            source = f"{label} row {number}"
            try:
                if isinstance(values, RowError):
                    raise values
                found.update(dict.fromkeys(values))
                row = Row(values, self.columns)
                examples.append(self._read_row(row, source))
                read |= row.read
            except RowError as problem:
                known = Problem(source, problem.reason, problem.column, problem.what)
                (self.dropped if problem.reason == "one_response" else problems).append(known)
        if not num_rows:
            raise DataError(f"{name} has no row.")
        if len(problems) == num_rows and all(problem.reason in {"missing_column", "no_prompt"} for problem in problems):
            raise _missing_column_error(name, problems[0], list(found))
        self.problems += problems
        if examples:
            not_read = [column for column in found if column not in read]
            self.report.columns_not_read = list(dict.fromkeys(self.report.columns_not_read + not_read))
        self.report.num_read += num_rows
        return examples

    def _read_row(self, row: Row, source: str) -> Example:
        reasons: list[str] = []
        example = read_row(row, self.pairs, source, reasons.append)
        for reason in reasons:
            self.report.count(reason, source=source)
        if example.ranking is not None and example.scores and max(example.scores) > example.scores[0]:
            self.report.count("score_against_pair", source=source)
        return example


def _label(name: str, paths: list[str]) -> str:
    """The file's name; its whole path where two files bear the same name."""
    short = Path(name).name
    same = [other for other in paths if Path(other).name == short and other != name]
    return name if same or not Path(name).suffix else short


def _check_columns(columns: Mapping[str, str]) -> None:
    unknown = [ours for ours in columns if ours not in COLUMNS]
    if unknown:
        known = "\n".join(f"  {name}: {meaning}" for name, meaning in COLUMNS.items())
        raise DataError(f"data.columns maps {', '.join(unknown)}, which nothing reads. Our names are:\n{known}")


def _missing_column_error(name: str, problem: Problem, found: list[str]) -> DataError:
    known = "\n".join(f"  {ours}: {meaning}" for ours, meaning in COLUMNS.items())
    spare = next((column for column in found if column not in COLUMNS), "your_column")
    ours = problem.column if problem.column in COLUMNS and problem.reason == "missing_column" else "prompt"
    return DataError(
        f"{name}: in every row, {problem.what}. Columns found: {', '.join(found)}.\n"
        f"Map our names to yours, for example 'data.columns={{{ours}: {spare}}}'. Our names are:\n{known}"
    )


def _count_overlap(train: list[Example], validation: list[Example], report: DataReport) -> None:
    held_out = {prompt_key(example.prompt) for example in validation}
    for example in train:
        if prompt_key(example.prompt) in held_out:
            report.count("prompt_in_validation", source=example.source)
