"""What is validated and tested on: files of their own, or a share split off the training rows."""

from collections.abc import Callable, Sequence

from dpo_lab.data.errors import DataError
from dpo_lab.data.report import DataReport
from dpo_lab.data.split import Split, check_fractions, split_by_prompt, whole_prompt
from dpo_lab.types import Example


def check_held_out(
    validation_path: str | None, validation_fraction: float, test_path: str | None, test_fraction: float
) -> None:
    """
    Raises:
        DataError: nothing would be left to train on; the test is named in two ways.
    """
    check_fractions(0.0 if validation_path else validation_fraction, test_fraction)
    if test_path and test_fraction:
        raise DataError("data.test_path and data.test_fraction are two ways to a test. Use one of them.")


def hold_out(
    sides: Sequence[list[Example]],
    report: DataReport,
    *,
    fraction: float,
    test_fraction: float,
    split_seed: int,
    key_of: Callable[[Example], str] = whole_prompt,
) -> Split:
    """The three sides, of which those that are empty are split off the first where a fraction is wanted.

    Prompts that stand on two sides, as `key_of` sees them, and the sizes are counted in `report`.

    Args:
        sides: examples of the files that are trained, validated and tested on, in this order.
        fraction: of validation, as in `split_by_prompt`; 0 where it has a file.
    """
    train, validation, test = sides
    _count_overlap(train, validation, report, "prompt_in_validation", key_of)
    _count_overlap([*train, *validation], test, report, "prompt_in_test", key_of)
    split = split_by_prompt(train, fraction, split_seed, test_fraction, key_of=key_of)
    split = Split(split.train, validation or split.validation, test or split.test)
    report.num_train, report.num_validation, report.num_test = map(len, split)
    return split


def _count_overlap(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    report: DataReport,
    reason: str,
    key_of: Callable[[Example], str],
) -> None:
    prompts = set(map(key_of, held_out))
    for example in examples:
        if key_of(example) in prompts:
            report.count(reason, source=example.source)
