import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.errors import DataError
from dpo_lab.data.split import split_by_prompt
from dpo_lab.types import Example


def make(prompts: list[str]) -> list[Example]:
    return [Example(prompt, (f"a{n}", "b"), ((0, 1),)) for n, prompt in enumerate(prompts)]


def prompts_of(examples: list[Example]) -> set[str]:
    return {str(example.prompt) for example in examples}


@given(st.lists(st.text(max_size=3), min_size=2), st.floats(0.01, 0.99), st.integers(0, 5))
def test_no_prompt_on_both_sides_and_no_row_lost(prompts: list[str], fraction: float, seed: int):
    if len(set(prompts)) < 2:
        return
    train, validation, _ = split_by_prompt(make(prompts), fraction, seed)
    assert train
    assert validation
    assert not prompts_of(train) & prompts_of(validation)
    assert sorted(e.responses[0] for e in train + validation) == sorted(e.responses[0] for e in make(prompts))


def test_order_of_rows_does_not_matter():
    examples = make([f"p{n}" for n in range(200)])
    shuffled = random.Random(0).sample(examples, len(examples))
    assert prompts_of(split_by_prompt(examples, 0.2, 3)[1]) == prompts_of(split_by_prompt(shuffled, 0.2, 3)[1])


def test_adding_rows_moves_no_prompt():
    fewer, more = make([f"p{n}" for n in range(200)]), make([f"p{n}" for n in range(300)])
    assert prompts_of(split_by_prompt(fewer, 0.2, 3)[1]) <= prompts_of(split_by_prompt(more, 0.2, 3)[1])


def test_size_is_near_the_fraction_and_the_seed_draws():
    """Binomial(2000, 0.1): mean 200, standard deviation 13.4."""
    examples = make([f"p{n}" for n in range(2000)])
    first, second = (split_by_prompt(examples, 0.1, seed)[1] for seed in (0, 1))
    assert abs(len(first) - 200) < 60
    assert abs(len(second) - 200) < 60
    assert prompts_of(first) != prompts_of(second)


def test_zero_is_no_validation():
    examples = make(["a", "a"])
    assert split_by_prompt(examples, 0.0, 0) == (examples, [], [])


def test_one_prompt_cannot_be_split():
    with pytest.raises(DataError, match="validation_fraction=0"):
        split_by_prompt(make(["a", "a"]), 0.5, 0)


@given(st.lists(st.text(max_size=3), min_size=3), st.floats(0.01, 0.6), st.floats(0.01, 0.39), st.integers(0, 5))
def test_a_test_is_taken_from_training_alone(prompts: list[str], fraction: float, test_fraction: float, seed: int):
    if len(set(prompts)) < 3:
        return
    examples = make(prompts)
    train, validation, test = split_by_prompt(examples, fraction, seed, test_fraction)
    sides = [prompts_of(side) for side in (train, validation, test)]
    assert all(sides) and len(set.union(*sides)) == sum(map(len, sides))
    assert sorted(e.responses[0] for e in train + validation + test) == sorted(e.responses[0] for e in examples)
    before = split_by_prompt(examples, fraction, seed)
    if len(set(prompts)) > 12:  # of a handful one side may have to give a prompt up
        assert prompts_of(validation) == prompts_of(before.validation)


def test_size_of_the_test():
    """Binomial(2000, 0.1) each: mean 200, standard deviation 13.4; validation is what it was without a test."""
    examples = make([f"p{n}" for n in range(2000)])
    split = split_by_prompt(examples, 0.1, 0, 0.1)
    assert abs(len(split.test) - 200) < 60
    assert split.validation == split_by_prompt(examples, 0.1, 0).validation
    assert split_by_prompt(examples, 0.0, 0, 0.1).test == split.test


def test_what_cannot_be_split_three_ways():
    with pytest.raises(
        DataError, match="a validation and a test split needs three distinct prompts, and the data has 2"
    ):
        split_by_prompt(make(["a", "b"]), 0.1, 0, 0.1)
    with pytest.raises(DataError, match="a test split needs two distinct prompts, and the data has one"):
        split_by_prompt(make(["a"]), 0.0, 0, 0.1)
    with pytest.raises(DataError, match="leave nothing to train on"):
        split_by_prompt(make(["a", "b", "c"]), 0.5, 0, 0.5)
