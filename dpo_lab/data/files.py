"""``data=files``: preference data from local files or from the hub."""

from collections.abc import Mapping
from typing import Literal

from dpo_lab.data.errors import DataError, problems_error
from dpo_lab.data.label_noise import swap_labels
from dpo_lab.data.named_files import label_of, paths_of
from dpo_lab.data.reader import Reader
from dpo_lab.data.repeats import count_rarer_kind, count_repeats
from dpo_lab.data.report import DataReport
from dpo_lab.data.row import COLUMNS
from dpo_lab.data.source import DataSource, chosen_demonstrations
from dpo_lab.data.split import prompt_key, split_by_prompt
from dpo_lab.ranges import Fraction, NonNegativeInt, PositiveInt, UpToHalf
from dpo_lab.types import Example

DROP = "data.on_problem=drop"


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
    label_noise: UpToHalf = 0.0,
    label_noise_seed: NonNegativeInt = 0,
) -> DataSource:
    """Read preference data.

    A row is one of: `prompt`, `chosen`, `rejected` as text or chat messages; `chosen` and `rejected` alone, as
    whole conversations or Human/Assistant transcripts; `conversations` with `chosen`, `rejected` (ShareGPT);
    `prompt`, `responses`, `scores`; `prompt`, `ranked`; `prompt`, `response`, `label`; `messages`, `label`. With
    chosen and rejected there may be `chosen_score`, `rejected_score` and `probability`, and rejected may be a list.

    Args:
        path: one or more files (.jsonl, .json, .csv, .tsv, .parquet, each also .gz), or a hub name
            ``owner/name:split``.
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
        label_noise: share of the training rows whose judgement is swapped: chosen and rejected change places, a single
            label becomes the other one. What is validated on, and what a supervised start imitates, stays as read.
        label_noise_seed: draws which.

    Raises:
        DataError: for files or rows that cannot be used, with their places and what to do.
    """
    paths = paths_of(path)
    _check_columns(columns or {})
    reader = Reader(columns or {}, pairs)
    train = [example for name in paths for example in reader.read(name, label_of(name, paths))]
    validation = reader.read(validation_path, label_of(validation_path, paths)) if validation_path else []
    if reader.problems and on_problem == "error":
        raise problems_error(reader.problems, f"{reader.advice()}Correct them, or drop and count them: {DROP}")
    report = reader.report
    for problem in reader.problems + reader.dropped:
        report.count(problem.reason, source=problem.source)
    for part, name in ((train, "data.path"), (validation, "data.validation_path")):
        if not part and (part is train or validation_path):
            raise problems_error(reader.problems + reader.dropped, f"{reader.advice()}No row of {name} is left.")
        count_repeats(part, report)
    count_rarer_kind([*train, *validation], report)
    if validation_path:
        _count_overlap(train, validation, report)
    else:
        train, validation = split_by_prompt(train, validation_fraction, split_seed)
    report.num_train, report.num_validation = len(train), len(validation)
    return DataSource(
        train=swap_labels(train, label_noise, label_noise_seed, report),
        validation=validation,
        demonstrations=chosen_demonstrations(train),
        max_length=max_length,
        on_overflow=on_overflow,
        shuffle=shuffle,
        report=report,
        on_problem=on_problem,
    )


def _check_columns(columns: Mapping[str, str]) -> None:
    unknown = [ours for ours in columns if ours not in COLUMNS]
    if unknown:
        known = "\n".join(f"  {name}: {meaning}" for name, meaning in COLUMNS.items())
        raise DataError(f"data.columns maps {', '.join(unknown)}, which nothing reads. Our names are:\n{known}")


def _count_overlap(train: list[Example], validation: list[Example], report: DataReport) -> None:
    held_out = {prompt_key(example.prompt) for example in validation}
    for example in train:
        if prompt_key(example.prompt) in held_out:
            report.count("prompt_in_validation", source=example.source)
