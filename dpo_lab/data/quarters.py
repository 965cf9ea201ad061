"""``data=quarters``: quarterly figures, generated here, with a report on them whose statements are right or wrong.

A report says of each line of the figures whether it rose or fell, from what and to what. Its reward is the number of
statements (a direction or a figure) that the figures bear out, less those that they do not.
"""

import random
import re

from dpo_lab.data.generated import Asked, generated
from dpo_lab.data.source import DataSource
from dpo_lab.ranges import NonNegativeInt, OpenFraction, PositiveInt, UpToHalf

LINES = ("Revenue", "Profit", "Debt", "Staff", "Orders")
NUM_LINES = 2
FIGURES = range(10, 100)


def true_reward(prompt: str, report: str) -> float:
    """Right statements less wrong ones, in [-6, 6]; what is said twice, or of a line that is not there, is wrong.

    >>> true_reward("Revenue: 40 then 52\\nProfit: 9 then 7\\nReport:", " Revenue rose from 40 to 51.")
    1.0
    """
    figures = {line: (int(old), int(new)) for line, old, new in re.findall(r"(\w+): (\d+) then (\d+)", prompt)}
    reward = 0
    for line, direction, old, new in re.findall(r"(\w+) (rose|fell) from (\d+) to (\d+)\.", report):
        if line not in figures:
            reward -= 3
            continue
        was, has_become = figures.pop(line)
        right = (direction == _direction(was, has_become)) + (int(old) == was) + (int(new) == has_become)
        reward += 2 * right - 3
    return float(reward)


def quarters(
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
    """Figures of two quarters and a report, drawn from `seed` alone; see `dpo_lab.data.generated`.

    Args:
        num_pairs: training pairs.
        num_validation_pairs: further ones.
        num_test_pairs: further ones, looked at once, after training.
        num_demonstrations: figures with a report that is not judged, for a supervised stage.
        error_rate: share of the statements of a report that are wrong, in (0, 1).
        seed: of the draw. The run's `seed` never moves the data.
        max_length: tokens of prompt and response together.
        shuffle: training order drawn anew each epoch, or as generated.
        label_noise: share of the training pairs that are swapped, in [0, 0.5].
        label_noise_seed: draws which.
    """
    return generated(
        "quarters",
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
    lines = generator.sample(LINES, NUM_LINES)
    figures = {line: tuple(generator.sample(FIGURES, 2)) for line in lines}
    table = "".join(f"{line}: {old} then {new}\n" for line, (old, new) in figures.items())
    seen = [figure for pair in figures.values() for figure in pair]

    def said(right: str, wrong: list[str], later: random.Random) -> str:
        others = [other for other in wrong if other != right]
        return later.choice(others) if later.random() < error_rate else right

    def answer(later: random.Random) -> str:
        sentences = []
        for line, (old, new) in figures.items():
            direction = said(_direction(old, new), ["rose", "fell"], later)
            before, after = (said(str(figure), [str(other) for other in seen], later) for figure in (old, new))
            sentences.append(f" {line} {direction} from {before} to {after}.")
        return "".join(sentences)

    return Asked(f"{table}Report:", answer)


def _direction(old: int, new: int) -> str:
    return "rose" if new > old else "fell"
