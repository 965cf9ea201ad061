"""``data=headlines``: short headlines of a few topics, generated here, so that a recipe can be tried without a file."""

import random

from dpo_lab.data.label_noise import swap_labels
from dpo_lab.data.labelled import labelled_example
from dpo_lab.data.read_labelled import LabelledText
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, chosen_demonstrations
from dpo_lab.ranges import Fraction, NonNegativeInt, PositiveInt, UpToHalf
from dpo_lab.types import Example

TOPICS = {
    "sport": ("goal", "match", "coach", "league", "striker", "final", "stadium", "cup"),
    "finance": ("bank", "shares", "market", "profit", "bonds", "rates", "fund", "merger"),
    "science": ("telescope", "genome", "particle", "fossil", "vaccine", "orbit", "neuron", "climate"),
    "politics": ("minister", "election", "senate", "treaty", "ballot", "budget", "embassy", "reform"),
}
FRAMES = ("{a} and {b} in {place}", "{place}: {a} before {b}", "new {a} for {b}", "why {a} needs {b}", "{a}, then {b}")
PLACES = ("the north", "the capital", "May", "the south", "winter", "the city")


def headlines(
    *,
    num_train: PositiveInt = 1200,
    num_validation: NonNegativeInt = 300,
    num_test: NonNegativeInt = 0,
    foreign_words: Fraction = 0.2,
    num_rejected: PositiveInt = 1,
    seed: NonNegativeInt = 0,
    max_length: PositiveInt = 64,
    shuffle: bool = True,
    label_noise: UpToHalf = 0.0,
    label_noise_seed: NonNegativeInt = 0,
) -> DataSource:
    """Headlines drawn from `seed` alone, four classes; wrong classes are rejected as in `labelled`, each as likely.

    Args:
        num_train: headlines to train on.
        num_validation: further ones, drawn after them.
        num_test: further ones, drawn after those.
        foreign_words: share of the words that are of any topic, in [0, 1): more is harder.
        num_rejected: wrong classes of each headline, at most 3.
        seed: of the draw. The run's seed never moves the data.
        max_length: tokens of a headline.
        shuffle: training order drawn anew each epoch, or as generated.
        label_noise: as in `labelled`.
        label_noise_seed: as in `labelled`.
    """
    generator = random.Random(seed)
    sides = [
        [_example(generator, foreign_words, num_rejected, f"headlines {name} {number}") for number in range(num)]
        for name, num in (("training", num_train), ("validation", num_validation), ("test", num_test))
    ]
    train, validation, test = sides
    report = DataReport(sum(map(len, sides)), len(train), len(validation), num_test=len(test))
    return DataSource(
        train=swap_labels(train, label_noise, label_noise_seed, report),
        validation=validation,
        demonstrations=chosen_demonstrations(train),
        max_length=max_length,
        on_overflow="truncate",
        shuffle=shuffle,
        report=report,
        classes=tuple(TOPICS),
        test=test,
        responses="classes",
    )


def _example(generator: random.Random, foreign_words: float, num_rejected: int, source: str) -> Example:
    topic = generator.choice(list(TOPICS))
    words = [
        generator.choice(TOPICS[generator.choice(list(TOPICS)) if generator.random() < foreign_words else topic])
        for _ in range(2)
    ]
    text = generator.choice(FRAMES).format(a=words[0], b=words[1], place=generator.choice(PLACES))
    weights = dict.fromkeys(TOPICS, 1.0)
    return labelled_example(LabelledText(text, topic, source), lambda gold: weights, num_rejected, 0)
