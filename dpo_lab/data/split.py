"""What is held out of training for validation and for the final test: by prompt, from a seed of its own."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dpo_lab.data.errors import DataError
from dpo_lab.types import Example, Text


class Split(NamedTuple):
    """A prompt is in one of the three only."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]


def prompt_key(prompt: Text) -> str:
    """Content of a prompt as one string: equal for equal prompts."""
    return json.dumps(prompt, sort_keys=True)


def check_fractions(fraction: float, test_fraction: float) -> None:
    """
    Raises:
        DataError: nothing would be left to train on.
    """
    if fraction + test_fraction >= 1:
        raise DataError(
            f"data.validation_fraction={fraction:g} and data.test_fraction={test_fraction:g} together leave nothing to "
            "train on. Choose them so that their sum is below 1."
        )


def whole_prompt(example: Example) -> str:
    """What must not stand on two sides where nothing else is said."""
    return prompt_key(example.prompt)


def split_by_prompt(
    examples: Sequence[Example],
    fraction: float,
    split_seed: int,
    test_fraction: float = 0.0,
    *,
    key_of: Callable[[Example], str] = whole_prompt,
) -> Split:
    """Training, validation and test examples; a prompt is on one side only.

    hash(split_seed, prompt) is a number in [0, 1): below `fraction` a prompt goes to validation, from
    1 - `test_fraction` on to the test. So the side of a prompt depends neither on the order of rows nor on the other
    rows, adding data moves no prompt, and a test is taken from training alone: validation stays what it was. The sizes
    are binomial; a side that would stay empty gets the one prompt nearest to it.

    Args:
        fraction: expected share of distinct prompts in validation, in [0, 1); 0 gives no validation.
        test_fraction: the same of the test.
        key_of: what stands for a prompt: a part of it, such as a passage, where rows that share that belong together.

    Raises:
        DataError: if there are fewer distinct prompts than sides, or the fractions leave nothing to train on.
    """
    check_fractions(fraction, test_fraction)
    num_sides = 1 + (fraction > 0) + (test_fraction > 0)
    if num_sides == 1:
        return Split(list(examples), [], [])
    position = {key: _position(key, split_seed) for key in map(key_of, examples)}
    if len(position) < num_sides:
        what = "a validation split" if num_sides == 2 and fraction > 0 else "a test split"
        what = "a validation and a test split" if num_sides == 3 else what
        needed, found = ("two", "three")[num_sides - 2], "one" if len(position) == 1 else str(len(position))
        raise DataError(
            f"{what} needs {needed} distinct prompts, and the data has {found}. "
            "Set data.validation_fraction=0 and data.test_fraction=0, or give data.validation_path and data.test_path."
        )
    ordered = sorted(position, key=lambda key: (position[key], key))
    places = [position[key] for key in ordered]
    num_validation = _size(sum(place < fraction for place in places), fraction, len(ordered) - (num_sides - 1))
    num_test = sum(place >= 1 - test_fraction for place in places)
    num_test = _size(num_test, test_fraction, len(ordered) - num_validation - 1)
    side = dict.fromkeys(ordered, 0) | dict.fromkeys(ordered[:num_validation], 1)
    side |= dict.fromkeys(ordered[len(ordered) - num_test :], 2)
    split = Split([], [], [])
    for example in examples:
        split[side[key_of(example)]].append(example)
    return split


def _size(wanted: int, fraction: float, most: int) -> int:
    """At least one prompt where there is to be any, and no more than leave one for each other side."""
    return min(max(wanted, 1), most) if fraction > 0 else 0


def _position(key: str, split_seed: int) -> float:
    digest = hashlib.blake2b(f"{split_seed}\n{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
