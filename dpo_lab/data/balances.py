"""``data=balances``: figures of made-up companies, generated here, with questions whose answer stands in them.

An answer is right or wrong: its reward is 1 or 0. Whoever answers wrongly has slipped by a line or by a year: the
figures of another line, or those of the two years the wrong way round.
"""

import random
import re

from dpo_lab.data.generated import Asked, generated
from dpo_lab.data.source import DataSource
from dpo_lab.ranges import NonNegativeInt, OpenFraction, PositiveInt, UpToHalf

LINES = ("revenue", "costs", "debt")
"""Of a table, in this order, as statements have them."""
FIGURES = range(10, 30)


def true_reward(prompt: str, answer: str) -> float:
    """1 for the right answer, else 0.

    >>> table = "revenue: 40 then 52\\ncosts: 31 then 30\\n"
    >>> true_reward(table + "Question: costs?", " 31 then 30"), true_reward(table + "Question: costs?", " 30 then 31")
    (1.0, 0.0)
    """
    figures = dict(re.findall(r"(\w+): (\d+ then \d+)\n", prompt))
    line = re.findall(r"Question: (\w+)\?", prompt)[-1]
    return float(answer.strip() == figures[line])


def balances(
    *,
    num_pairs: PositiveInt = 960,
    num_validation_pairs: PositiveInt = 300,
    num_test_pairs: NonNegativeInt = 0,
    num_demonstrations: PositiveInt = 8000,
    error_rate: OpenFraction = 0.3,
    seed: NonNegativeInt = 0,
    max_length: PositiveInt = 128,
    shuffle: bool = True,
    label_noise: UpToHalf = 0.0,
    label_noise_seed: NonNegativeInt = 0,
) -> DataSource:
    """Tables of figures of two years and a question on one line, drawn from `seed` alone; see `dpo_lab.data.generated`.

    Args:
        num_pairs: training pairs.
        num_validation_pairs: further ones.
        num_test_pairs: further ones, looked at once, after training.
        num_demonstrations: questions with an answer that is not judged, for a supervised stage.
        error_rate: share of the answers that are wrong, in (0, 1).
        seed: of the draw. The run's `seed` never moves the data.
        max_length: tokens of prompt and response together.
        shuffle: training order drawn anew each epoch, or as generated.
        label_noise: share of the training pairs that are swapped, in [0, 0.5].
        label_noise_seed: draws which.
    """
    return generated(
        "balances",
        lambda generator: _ask(generator, error_rate),
        true_reward,
        num_pairs=num_pairs,
        num_validation_pairs=num_validation_pairs,
        num_test_pairs=num_test_pairs,
        num_demonstrations=num_demonstrations,
        seed=seed,
        max_length=max_length,
        shuffle=shuffle,
        label_noise=label_noise,
        label_noise_seed=label_noise_seed,
    )


def _ask(generator: random.Random, error_rate: float) -> Asked:
    drawn = generator.sample(FIGURES, 2 * len(LINES))
    figures = {line: (drawn[2 * number], drawn[2 * number + 1]) for number, line in enumerate(LINES)}
    asked = generator.choice(LINES)
    right = _said(*figures[asked])
    wrong = [_said(*figures[line]) for line in LINES if line != asked] + [_said(*reversed(figures[asked]))]

    def answer(later: random.Random) -> str:
        return f" {later.choice(wrong) if later.random() < error_rate else right}"

    table = "".join(f"{line}: {_said(*figures[line])}\n" for line in LINES)
    return Asked(f"{table}Question: {asked}?\nAnswer:", answer)


def _said(before: int, after: int) -> str:
    return f"{before} then {after}"
