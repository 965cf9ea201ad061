"""The validation split: by prompt, from a seed of its own."""

import hashlib
import json
from collections.abc import Callable, Sequence

from dpo_lab.data.errors import DataError
from dpo_lab.types import Example, Text


def prompt_key(prompt: Text) -> str:
    """Content of a prompt as one string: equal for equal prompts."""
    return json.dumps(prompt, sort_keys=True)


def split_by_prompt(
    examples: Sequence[Example], fraction: float, split_seed: int
) -> tuple[list[Example], list[Example]]:
    """Training and validation examples; a prompt is on one side only: `split_by` the whole prompt."""
    return split_by(examples, lambda example: prompt_key(example.prompt), fraction, split_seed)


def split_by(
    examples: Sequence[Example], key_of: Callable[[Example], str], fraction: float, split_seed: int
) -> tuple[list[Example], list[Example]]:
    """Training and validation examples; what has one key is on one side only.

    A key goes to validation where hash(split_seed, key), a number in [0, 1), is below `fraction`. So the
    side of a key depends neither on the order of rows nor on the other rows, and adding data moves no
    key. The size of the split is binomial; a side that would stay empty gets the one key nearest to it.

    Args:
        key_of: what must not stand on both sides: the whole prompt, or the passage that several questions are about.
        fraction: expected share of distinct keys in validation, in [0, 1); 0 gives no validation.

    Raises:
        DataError: if `fraction` > 0 and there are fewer than two distinct keys.
    """
    if fraction == 0:
        return list(examples), []
    position = {key: _position(key, split_seed) for key in map(key_of, examples)}
    if len(position) < 2:
        raise DataError(
            "a validation split needs two distinct prompts (of questions, passages), and the data has one. "
            "Set data.validation_fraction=0, or give data.validation_path."
        )
    ordered = sorted(position, key=lambda key: (position[key], key))
    num_validation = sum(place < fraction for place in position.values())
    held_out = set(ordered[: min(max(num_validation, 1), len(ordered) - 1)])
    train = [example for example in examples if key_of(example) not in held_out]
    validation = [example for example in examples if key_of(example) in held_out]
    return train, validation


def _position(key: str, split_seed: int) -> float:
    digest = hashlib.blake2b(f"{split_seed}\n{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
