"""``data=balances``: figures of made-up companies, generated here, with questions whose answer follows from them.

An answer is right or wrong: its reward is 1 or 0. Whoever answers wrongly names another figure of the same company, or
the wrong direction, as one does who has slipped by a line or a year.
"""

import random
import re

from dpo_lab.data.generated import Asked, generated
from dpo_lab.data.source import DataSource
from dpo_lab.ranges import NonNegativeInt, OpenFraction, PositiveInt, UpToHalf

ITEMS = ("revenue", "costs", "debt", "cash", "tax", "rent")
YEARS = ("2023", "2024")
NUM_ITEMS = 3
"""Lines of a table."""


def true_reward(prompt: str, answer: str) -> float:
    """1 for the right answer, else 0.

    >>> table = "revenue 2023: 40\\nrevenue 2024: 52\\n"
    >>> true_reward(table + "Question: revenue 2024?", " 52"), true_reward(table + "Question: did revenue rise?", " no")
    (1.0, 0.0)
    """
    figures = {(item, year): value for item, year, value in re.findall(r"(\w+) (\d{4}): (\d+)", prompt)}
    if found := re.search(r"did (\w+) rise\?", prompt):
        item = found[1]
        right = "yes" if int(figures[item, YEARS[1]]) > int(figures[item, YEARS[0]]) else "no"
    else:
        item, year = re.findall(r"(\w+) (\d{4})\?", prompt)[-1]
        right = figures[item, year]
    return float(answer.strip() == right)


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
    """Tables of figures of two years and a question, drawn from `seed` alone; see `dpo_lab.data.generated`.

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
    items = generator.sample(ITEMS, NUM_ITEMS)
    cells = [(item, year) for item in items for year in YEARS]
    figures = dict(zip(cells, generator.sample(range(10, 100), len(cells)), strict=True))
    table = "".join(f"{item} {year}: {figures[item, year]}\n" for item, year in cells)
    item, year = generator.choice(cells)
    if generator.random() < 1 / 3:
        question, right = f"did {item} rise?", "yes" if figures[item, YEARS[1]] > figures[item, YEARS[0]] else "no"
        others = ["no" if right == "yes" else "yes"]
    else:
        question, right = f"{item} {year}?", str(figures[item, year])
        others = [str(figure) for cell, figure in figures.items() if cell != (item, year)]

    def answer(later: random.Random) -> str:
        return f" {later.choice(others) if later.random() < error_rate else right}"

    return Asked(f"{table}Question: {question}\nAnswer:", answer)
