"""Data that is drawn here: prompts with people who answer them, now well, now not, and a reward that is known.

What every such kind shares stands here: how answers become pairs and demonstrations. A kind itself says what a prompt
is, how people answer it, and what an answer is worth.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from dpo_lab.data.label_noise import swap_labels
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, TrueReward
from dpo_lab.types import Example, Text


class Asked(NamedTuple):
    """A prompt, and `answer`, which draws what somebody says to it: something else at each call, right or wrong."""

    prompt: Text
    answer: Callable[[random.Random], str]


Ask = Callable[[random.Random], Asked]


def generated(
    name: str,
    ask: Ask,
    true_reward: TrueReward,
    *,
    num_pairs: int,
    num_validation_pairs: int,
    num_test_pairs: int,
    num_demonstrations: int,
    seed: int,
    max_length: int,
    shuffle: bool,
    label_noise: float,
    label_noise_seed: int,
) -> DataSource:
    """Rows of one kind, drawn from `seed` alone, each set apart from the others.

    A pair are two answers to one prompt whose rewards differ, the better one chosen; a demonstration is an answer as it
    came, unjudged. So imitation learns the mistakes with the rest, and what preference adds to it can be measured.

    Args:
        name: of the kind, for messages.
        ask: draws a prompt.
        true_reward: of a prompt, as text, with an answer.
        num_pairs: training pairs.
        num_validation_pairs: further ones.
        num_test_pairs: further ones, looked at once, after training.
        num_demonstrations: answers to prompts of their own, for a supervised stage.
        seed: of the draw. The run's `seed` never moves the data.
        max_length: tokens of prompt and response together.
        shuffle: training order drawn anew each epoch, or as generated.
        label_noise: share of the training pairs whose chosen and rejected change places.
        label_noise_seed: draws which.
    """

    def drawn(side: str, num: int, draw: Callable[[random.Random, str], Example]) -> list[Example]:
        generator = random.Random(f"{name} {side} {seed}")
        return [draw(generator, f"{name} {side} {number}") for number in range(num)]

    def pair(generator: random.Random, source: str) -> Example:
        return _pair(ask(generator), true_reward, generator, source)

    def demonstration(generator: random.Random, source: str) -> Example:
        asked = ask(generator)
        return Example(asked.prompt, (asked.answer(generator),), source=source)

    train, validation = drawn("pair", num_pairs, pair), drawn("validation pair", num_validation_pairs, pair)
    test = drawn("test pair", num_test_pairs, pair)
    report = DataReport(len(train) + len(validation) + len(test), len(train), len(validation), num_test=len(test))
    return DataSource(
        train=swap_labels(train, label_noise, label_noise_seed, report),
        validation=validation,
        demonstrations=drawn("demonstration", num_demonstrations, demonstration),
        max_length=max_length,
        on_overflow="error",
        has_overflow_knob=False,
        shuffle=shuffle,
        report=report,
        true_reward=true_reward,
        test=test,
    )


def _pair(asked: Asked, true_reward: TrueReward, generator: random.Random, source: str) -> Example:
    prompt, first = as_text(asked.prompt), asked.answer(generator)
    second = asked.answer(generator)
    while true_reward(prompt, second) == true_reward(prompt, first):
        second = asked.answer(generator)
    chosen, rejected = sorted((first, second), key=lambda answer: -true_reward(prompt, answer))
    scores = (true_reward(prompt, chosen), true_reward(prompt, rejected))
    return Example(asked.prompt, (chosen, rejected), ((0, 1),), scores, source)


def as_text(prompt: Text) -> str:
    """A prompt as one text, a line for each turn of a chat."""
    return prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)
