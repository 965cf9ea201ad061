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
    train, validation = split_by_prompt(make(prompts), fraction, seed)
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
    assert split_by_prompt(examples, 0.0, 0) == (examples, [])


def test_one_prompt_cannot_be_split():
    with pytest.raises(DataError, match="validation_fraction=0"):
        split_by_prompt(make(["a", "a"]), 0.5, 0)
