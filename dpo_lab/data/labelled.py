"""``data=labelled``: texts with a gold class each, and pairs of the gold class against wrong ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from dpo_lab.data.columns import check_columns
from dpo_lab.data.confusion import read_confusion
from dpo_lab.data.errors import DataError, Problem, RowError, problems_error
from dpo_lab.data.held_out import check_held_out, hold_out
from dpo_lab.data.label_noise import swap_labels
from dpo_lab.data.named_files import label_of, paths_of
from dpo_lab.data.preference import Preference, WrongWeights, draw_rejected
from dpo_lab.data.preparation import UNPREPARED, Preparation
from dpo_lab.data.read_labelled import COLUMNS, LabelledReader, LabelledText, find_classes, name_of
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, chosen_demonstrations
from dpo_lab.data.split import prompt_key
from dpo_lab.data.text_notes import count_notes
from dpo_lab.ranges import Fraction, NonNegative, NonNegativeInt, PositiveInt, UpToHalf
from dpo_lab.types import Example


def labelled(
    prepare: Preparation = UNPREPARED,
    *,
    path: str | list[str],
    validation_path: str | None = None,
    validation_fraction: Fraction = 0.05,
    test_path: str | None = None,
    test_fraction: Fraction = 0.0,
    split_seed: NonNegativeInt = 0,
    columns: dict[str, str] | None = None,
    classes: list[str] | str | None = None,
    preference: Preference = "uniform",
    num_rejected: PositiveInt | None = 1,
    preference_seed: NonNegativeInt = 0,
    class_weights: dict[str, NonNegative] | None = None,
    confusion: str | None = None,
    max_length: PositiveInt = 128,
    on_overflow: Literal["drop", "truncate", "error"] = "truncate",
    on_problem: Literal["error", "drop"] = "error",
    shuffle: bool = True,
    label_noise: UpToHalf = 0.0,
    label_noise_seed: NonNegativeInt = 0,
) -> DataSource:
    """Read labelled texts. The response to a text is the name of a class; the gold one is chosen.

    A row has a `text` and a `label`. Of each text `num_rejected` wrong classes are rejected, drawn by `preference`:
    their order among each other is not known.

    Args:
        prepare: steps on the texts and gold classes that were read, before wrong classes are drawn for them, and on
            training rows once the split is made.
        path: one or more files (.jsonl, .json, .csv, .tsv, .txt, .parquet, each also .gz), or a hub name.
        validation_path: a file to validate on; then nothing is split off. A training row whose text is in there too is
            kept and counted.
        validation_fraction: expected share of distinct texts that is split off for validation, in [0, 1).
        test_path: a file to test on, once, after training.
        test_fraction: expected share of distinct texts that is split off `path` for the test, in [0, 1).
        split_seed: draws those splits; the seed of the run does not.
        columns: our name -> the file's, where they differ: ``{text: title, label: class}``. In a .txt file, whose cells
            stand between tabs without a header, columns are called ``column_1``, ``column_2``, ...
        classes: their names in order, as a list or as a file with a name a line; a label is then a name or counts from
            0. Null: the labels that training rows have, sorted.
        preference: which wrong classes are rejected. "uniform": each as likely. "class_weighted": in proportion to
            `class_weights`. "confusion_weighted": in proportion to how probable a model found them for texts of the
            same gold class, by the file `confusion`: hard negatives.
        num_rejected: wrong classes of each text, all different; null: all of them.
        preference_seed: draws them. The run's seed never moves the data.
        class_weights: of classes as wrong ones, by name; null: how often each is the gold class of a training row.
        confusion: a file that ``dpo-lab mine`` wrote.
        max_length: tokens of a text.
        on_overflow: what happens to a longer one; "truncate" cuts its end.
        on_problem: what happens to a row that cannot be used: all of them in one error, or dropped and counted.
        shuffle: whether each epoch has an order of its own.
        label_noise: share of the training texts of which chosen and rejected change places; only with one rejected
            class. What is validated on, and what a supervised start imitates, stays as read.
        label_noise_seed: draws which.

    Raises:
        DataError: for files, rows or knobs that cannot be used, with their places and what to do.
    """
    prepare.check("classes")
    _check_knobs(columns or {}, preference, class_weights, confusion)
    check_held_out(validation_path, validation_fraction, test_path, test_fraction)
    paths = paths_of(path)
    reader = LabelledReader(columns or {})
    files = (paths, [validation_path], [test_path])
    rows = [[row for name in names if name for row in reader.read(name, label_of(name, paths))] for names in files]
    names = find_classes(classes, rows[0])
    report = DataReport(num_read=reader.num_read, columns_not_read=reader.columns_not_read)
    gold = [[known for row in side if (known := _named(row, names, reader.problems))] for side in rows]
    if reader.problems and on_problem == "error":
        raise problems_error(reader.problems, "Correct them, or drop and count them: data.on_problem=drop")
    for problem in reader.problems:
        report.count(problem.reason, source=problem.source)
    for key, wanted, side in zip(("path", "validation_path", "test_path"), files, gold, strict=True):
        if any(wanted) and not side:
            raise problems_error(reader.problems, f"No row of data.{key} is left.")
    gold = _prepared(gold, prepare, report)
    weigh = _weights(names, preference, class_weights, confusion, gold[0], report)
    number = len(names) - 1 if num_rejected is None else num_rejected
    sides = [[labelled_example(row, weigh, number, preference_seed) for row in side] for side in gold]
    for side in sides:
        _count_notes(side, report)
    split = hold_out(
        sides,
        report,
        fraction=0.0 if validation_path else validation_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
    train = prepare.of_training(split, "classes", report)
    return DataSource(
        train=swap_labels(train, label_noise, label_noise_seed, report),
        validation=split.validation,
        demonstrations=chosen_demonstrations(train),
        max_length=max_length,
        on_overflow=on_overflow,
        shuffle=shuffle,
        report=report,
        on_problem=on_problem,
        classes=names,
        test=split.test,
        responses="classes",
    )


def _check_knobs(
    columns: Mapping[str, str],
    preference: Preference,
    class_weights: Mapping[str, float] | None,
    confusion: str | None,
) -> None:
    check_columns(columns, COLUMNS)
    if class_weights is not None and preference != "class_weighted":
        raise DataError(f"data.class_weights: acts with data.preference=class_weighted alone, not with {preference}.")
    if (confusion is not None) != (preference == "confusion_weighted"):
        raise DataError(
            "data.confusion: data.preference=confusion_weighted needs a file that `dpo-lab mine RUN --out FILE` wrote, "
            f"and nothing else reads one; here are data.preference={preference} and data.confusion={confusion}."
        )


def _named(row: LabelledText, classes: Sequence[str], problems: list[Problem]) -> LabelledText | None:
    """`row` with the name of its class; None, and one more of `problems`, where it has none."""
    try:
        return row._replace(label=name_of(row, classes))
    except RowError as problem:
        problems.append(Problem(row.source, problem.reason, problem.column, problem.what, problem.excerpt))
        return None


def _prepared(
    sides: Sequence[Sequence[LabelledText]], prepare: Preparation, report: DataReport
) -> list[list[LabelledText]]:
    """Each text as a row to imitate, so that equal texts of one class are the same whatever is drawn for them."""
    rows = [[Example(row.text, (row.label,), source=row.source) for row in side] for side in sides]
    prepared = prepare.before_split(rows, "classes", report)
    return [[LabelledText(str(row.prompt), str(row.responses[0]), row.source) for row in side] for side in prepared]


def _weights(
    classes: tuple[str, ...],
    preference: Preference,
    class_weights: Mapping[str, float] | None,
    confusion: str | None,
    rows: Sequence[LabelledText],
    report: DataReport,
) -> WrongWeights:
    if confusion is not None:
        matrix = read_confusion(confusion, classes)
        report.made_with.append(f"{confusion}: {matrix.said()}")
        return matrix.wrong
    weights: Mapping[str, float] = dict.fromkeys(classes, 1.0)
    if preference == "class_weighted":
        weights = class_weights or {name: float(num) for name, num in Counter(row.label for row in rows).items()}
        unknown = [name for name in weights if name not in classes]
        if unknown:
            raise DataError(f"data.class_weights: {', '.join(unknown)} is none of the classes: {', '.join(classes)}.")
    return lambda gold: weights


def labelled_example(row: LabelledText, weigh: WrongWeights, num_rejected: int, seed: int) -> Example:
    """The gold class of `row` against wrong ones.

    Raises:
        DataError: there are fewer than `num_rejected` wrong classes with a weight.
    """
    rejected = draw_rejected(row.text, row.label, weigh(row.label), num_rejected, seed)
    if len(rejected) < num_rejected:
        raise DataError(
            f"data.num_rejected={num_rejected}: {row.source} of class {row.label} has {len(rejected)} wrong classes "
            "with a weight. Use a smaller number, or null for all of them."
        )
    has_list = len(rejected) > 1
    return Example(
        row.text,
        (row.label, *rejected),
        tuple((0, number) for number in range(1, len(rejected) + 1)),
        source=row.source,
        ranking=tuple(range(len(rejected) + 1)) if has_list else None,
        is_best_alone=has_list,
    )


def _count_notes(examples: Sequence[Example], report: DataReport) -> None:
    """What looks wrong with a text, and texts that stand there again, with the same gold class or another one."""
    gold: dict[str, set[str]] = {}
    count_notes(examples, report)
    for example in examples:
        earlier, label = gold.setdefault(prompt_key(example.prompt), set()), str(example.responses[0])
        report.count("duplicate_judgement", int(label in earlier), example.source)
        report.count("contradictory_class", int(bool(earlier - {label})), example.source)
        earlier.add(label)
