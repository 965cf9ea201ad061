"""``data=files``: preference data from local files or from the hub."""

from pathlib import Path
from typing import Literal

from dpo_lab.data.columns import check_columns
from dpo_lab.data.errors import problems_error
from dpo_lab.data.held_out import check_held_out, hold_out
from dpo_lab.data.label_noise import swap_labels
from dpo_lab.data.named_files import label_of, paths_of
from dpo_lab.data.preparation import UNPREPARED, Preparation
from dpo_lab.data.reader import Reader
from dpo_lab.data.repeats import count_rarer_kind, count_repeats
from dpo_lab.data.row import COLUMNS
from dpo_lab.data.source import DataSource, chosen_demonstrations
from dpo_lab.data.text_notes import count_notes
from dpo_lab.ranges import Fraction, NonNegativeInt, PositiveInt, UpToHalf

DROP = "data.on_problem=drop"


def files(
    prepare: Preparation = UNPREPARED,
    cache_dir: Path | None = None,
    *,
    path: str | list[str],
    validation_path: str | None = None,
    validation_fraction: Fraction = 0.05,
    test_path: str | None = None,
    test_fraction: Fraction = 0.0,
    split_seed: NonNegativeInt = 0,
    max_length: PositiveInt = 512,
    on_overflow: Literal["drop", "truncate", "error"] = "drop",
    on_problem: Literal["error", "drop"] = "error",
    shuffle: bool = True,
    columns: dict[str, str] | None = None,
    pairs: Literal["all", "adjacent", "best_vs_rest"] = "all",
    label_noise: UpToHalf = 0.0,
    label_noise_seed: NonNegativeInt = 0,
    image_folder: str | None = None,
) -> DataSource:
    """Read preference data.

    A row is one of: `prompt`, `chosen`, `rejected` as text or chat messages; `chosen` and `rejected` alone, as
    whole conversations or Human/Assistant transcripts; `conversations` with `chosen`, `rejected` (ShareGPT);
    `prompt`, `responses`, `scores`; `prompt`, `ranked`; `prompt`, `response`, `label`; `messages`, `label`. The last
    two without a label are demonstrations: responses to imitate, of which nothing was judged. With chosen and
    rejected there may be `chosen_score`, `rejected_score` and `probability`, and rejected may be a list.
    Any row may have `images` that its prompt shows, for ``model=vision_language``.

    Args:
        prepare: steps on the rows that were read, and on training rows once the split is made.
        cache_dir: where images that lie inside of a data file are kept; the framework gives it.
        path: one or more files (.jsonl, .json, .csv, .tsv, .parquet, each also .gz), or a hub name
            ``owner/name:split``.
        validation_path: a file or hub name to validate on; then nothing is split off. A training row whose prompt
            is in there too is kept and counted.
        validation_fraction: expected share of distinct prompts that is split off for validation, in [0, 1).
        test_path: a file or hub name to test on, once, after training. A row of the others whose prompt is in there too
            is kept and counted.
        test_fraction: expected share of distinct prompts that is split off `path` for the test, in [0, 1).
        split_seed: draws those splits; the seed of the run does not.
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
        image_folder: where paths of images begin, which may not lead out of it; null: in the folder of the data file.

    Raises:
        DataError: for files or rows that cannot be used, with their places and what to do.
    """
    prepare.check("texts")
    paths = paths_of(path)
    check_columns(columns or {}, COLUMNS)
    check_held_out(validation_path, validation_fraction, test_path, test_fraction)
    store = None if cache_dir is None else cache_dir / "images"
    reader = Reader(columns or {}, pairs, image_folder=image_folder, image_store=store)
    named = {"data.path": paths, "data.validation_path": [validation_path], "data.test_path": [test_path]}
    sides = {
        key: [example for name in names if name for example in reader.read(name, label_of(name, paths))]
        for key, names in named.items()
    }
    if reader.problems and on_problem == "error":
        raise problems_error(reader.problems, f"{reader.advice()}Correct them, or drop and count them: {DROP}")
    report = reader.report
    for problem in reader.problems + reader.dropped:
        report.count(problem.reason, source=problem.source)
    for key, examples in sides.items():
        if not examples and any(named[key]):
            raise problems_error(reader.problems + reader.dropped, f"{reader.advice()}No row of {key} is left.")
    prepared = prepare.before_split(list(sides.values()), "texts", report)
    for examples in prepared:
        count_notes(examples, report)
        count_repeats(examples, report)
    count_rarer_kind([example for examples in prepared for example in examples], report)
    split = hold_out(
        prepared,
        report,
        fraction=0.0 if validation_path else validation_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
    train = prepare.of_training(split, "texts", report)
    return DataSource(
        train=swap_labels(train, label_noise, label_noise_seed, report),
        validation=split.validation,
        demonstrations=chosen_demonstrations(train),
        max_length=max_length,
        on_overflow=on_overflow,
        shuffle=shuffle,
        report=report,
        on_problem=on_problem,
        test=split.test,
    )
