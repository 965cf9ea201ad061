"""``data=articles``: short match reports, generated here, with a summary whose facts are right or wrong.

A summary says who beat whom where. Its reward is the number of these three facts that the article bears out, less those
that it does not, less one for each further sentence, which says nothing of the match.
"""

import random
import re

from dpo_lab.data.generated import Asked, generated
from dpo_lab.data.source import DataSource
from dpo_lab.ranges import NonNegativeInt, OpenFraction, PositiveInt, UpToHalf

CLUBS = ("Lions", "Hawks", "Bears", "Wolves", "Sharks", "Eagles", "Tigers", "Foxes")
TOWNS = ("Oslo", "Quito", "Perth", "Tunis", "Hanoi", "Porto", "Turin", "Kyoto")
IDLE = ("It rained all day.", "The crowd sang.", "Tickets were sold out.")
MATCH = re.compile(r"The (\w+) (beat|lost to) the (\w+) in (\w+)\.")
SUMMARY = re.compile(r"(\w+) beat (\w+) in (\w+)\.")


def true_reward(prompt: str, summary: str) -> float:
    """Right facts less wrong ones, less idle sentences; -3 where it does not say who beat whom where.

    >>> article = "The Bears lost to the Lions in Oslo. The Hawks won last year in Perth. Summary:"
    >>> true_reward(article, " Lions beat Hawks in Oslo. It rained all day.")
    0.0
    """
    match, said = MATCH.search(prompt), SUMMARY.search(summary)
    idle = sum(summary.count(sentence) for sentence in IDLE)
    if match is None or said is None:
        return float(-3 - idle)
    first, verb, second, here = match.groups()
    winner, loser = (first, second) if verb == "beat" else (second, first)
    num_right = (said[1] == winner) + (said[2] == loser) + (said[3] == here)
    return float(2 * num_right - 3 - idle)


def articles(
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
    """Articles with a summary, drawn from `seed` alone; see `dpo_lab.data.generated`.

    Args:
        num_pairs: training pairs.
        num_validation_pairs: further ones.
        num_test_pairs: further ones, looked at once, after training.
        num_demonstrations: articles with a summary that is not judged, for a supervised stage.
        error_rate: share of the facts of a summary that are wrong, and of summaries with an idle sentence, in (0, 1).
        seed: of the draw. The run's `seed` never moves the data.
        max_length: tokens of prompt and response together.
        shuffle: training order drawn anew each epoch, or as generated.
        label_noise: share of the training pairs that are swapped, in [0, 0.5].
        label_noise_seed: draws which.
    """
    return generated(
        "articles",
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
    winner, loser, third = generator.sample(CLUBS, 3)
    here, elsewhere = generator.sample(TOWNS, 2)
    match = f"The {winner} beat the {loser}" if generator.random() < 1 / 2 else f"The {loser} lost to the {winner}"
    further = [f"The {third} won last year in {elsewhere}.", generator.choice(IDLE)]
    generator.shuffle(further)
    article = " ".join([f"{match} in {here}.", *further])

    def answer(later: random.Random) -> str:
        facts = [
            later.choice(wrong) if later.random() < error_rate else right
            for right, wrong in ((winner, (loser, third)), (loser, (winner, third)), (here, (elsewhere,)))
        ]
        idle = f" {later.choice(IDLE)}" if later.random() < error_rate else ""
        return f" {facts[0]} beat {facts[1]} in {facts[2]}.{idle}"

    return Asked(f"{article}\nSummary:", answer)
