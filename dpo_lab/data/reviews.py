"""Short reviews with a reward that is known: the data on which a preference recipe can be proved to work.

A review is two to four clauses, each praising, blaming or neither. Its true reward counts praise minus blame; pairs are
judged by Bradley-Terry with that reward, longer lists by Plackett-Luce. So whether training has raised the reward is a
measurement, not an opinion.
"""

import math
import random
import re
from functools import partial
from typing import Annotated, Literal

from dpo_lab.data.label_noise import swap_labels
from dpo_lab.data.rank import PairsRule, rank_positions
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.ranges import Ge, NonNegativeInt, Positive, PositiveInt, UpToHalf
from dpo_lab.types import Example

ASPECTS = {
    "film": ("plot", "cast", "music", "ending", "camera work"),
    "restaurant": ("soup", "service", "wine", "dessert", "menu"),
    "hotel": ("room", "breakfast", "pool", "view", "staff"),
    "book": ("story", "style", "hero", "first chapter", "cover"),
    "phone": ("screen", "battery", "sound", "camera", "price"),
}
PRAISE = ("great", "lovely", "superb", "delightful", "brilliant", "charming")
BLAME = ("awful", "dull", "poor", "dreadful", "boring", "broken")
NEITHER = ("average", "plain", "usual", "fine")
DEGREES = ("", "really ", "quite ", "rather ")
OPENERS = ("the {aspect} was {degree}{word}", "I found the {aspect} {degree}{word}", "a {degree}{word} {aspect}")
SHARES = (0.4, 0.4, 0.2)
"""Of clauses that praise, blame, and do neither."""

REWARD_OF_WORD = dict.fromkeys(PRAISE, 1) | dict.fromkeys(BLAME, -1)


def true_reward(review: str) -> float:
    """Words of praise minus words of blame.

    >>> true_reward("The plot was really great. The cast was dull, the music superb.")
    1.0
    """
    return float(sum(REWARD_OF_WORD.get(word, 0) for word in re.findall(r"[a-z]+", review.lower())))


def reviews(
    *,
    num_pairs: PositiveInt = 4000,
    num_validation_pairs: PositiveInt = 500,
    num_demonstrations: PositiveInt = 4000,
    num_test_pairs: NonNegativeInt = 0,
    reward_scale: Positive = 1.0,
    seed: NonNegativeInt = 0,
    max_length: PositiveInt = 128,
    on_overflow: Literal["drop", "truncate", "error"] = "error",
    shuffle: bool = True,
    num_responses: Annotated[int, Ge(2)] = 2,
    pairs: PairsRule = "all",
    label_noise: UpToHalf = 0.0,
    label_noise_seed: NonNegativeInt = 0,
) -> DataSource:
    """Reviews drawn from `seed` alone: the same arguments give the same rows on every machine.

    Each example knows its true rewards (`scores`), the order drawn (`ranking`) and, of each pair, the probability
    under Bradley-Terry that its chosen response wins (`win_probabilities`; below 1/2 where luck has decided).

    Args:
        num_pairs: training pairs; with `num_responses` above 2, lists, each of which gives several pairs.
        num_validation_pairs: further ones, drawn after them.
        num_demonstrations: single reviews for the supervised stage, never judged.
        num_test_pairs: looked at once, after training; drawn apart, so that they depend on `seed` alone and the other
            rows not on them.
        reward_scale: s in P(first preferred) = sigmoid(s (reward1 - reward2)); small is a noisy judge.
        seed: of the draw. The run's `seed` never moves the data.
        max_length: tokens of prompt and response together.
        on_overflow: what happens to a longer one.
        shuffle: training order drawn anew each epoch, or as generated.
        num_responses: reviews of one thing that are judged together, all different. Their order is drawn from
            Plackett-Luce: of those left, the next is r with probability proportional to exp(s reward(r)). With 2 this
            is Bradley-Terry.
        pairs: which pairs the order of a longer list gives: `all`, those `adjacent` in it, or `best_vs_rest`.
        label_noise: share of the training pairs whose chosen and rejected change places, beside what `reward_scale`
            leaves to luck; validation stays as drawn.
        label_noise_seed: draws which.
    """
    generator = random.Random(seed)
    draw = _pair if num_responses == 2 else partial(_list, num_responses=num_responses, pairs=pairs)
    unit = "pair" if num_responses == 2 else "list"
    train = [draw(generator, reward_scale, f"reviews {unit} {index}") for index in range(num_pairs)]
    validation = [
        draw(generator, reward_scale, f"reviews validation {unit} {index}") for index in range(num_validation_pairs)
    ]
    demonstrations = [_demonstration(generator, index) for index in range(num_demonstrations)]
    apart = random.Random(f"test {seed}")
    test = [draw(apart, reward_scale, f"reviews test {unit} {index}") for index in range(num_test_pairs)]
    num_read = num_pairs + num_validation_pairs + num_test_pairs
    report = DataReport(num_read, num_pairs, num_validation_pairs, num_test=num_test_pairs)
    return DataSource(
        train=swap_labels(train, label_noise, label_noise_seed, report),
        validation=validation,
        demonstrations=demonstrations,
        max_length=max_length,
        on_overflow=on_overflow,
        shuffle=shuffle,
        report=report,
        true_reward=lambda prompt, review: true_reward(review),
        test=test,
    )


def _pair(generator: random.Random, reward_scale: float, source: str) -> Example:
    """Two different reviews of one thing, the preferred one drawn from Bradley-Terry."""
    thing = generator.choice(list(ASPECTS))
    first = _review(generator, thing)
    second = _review(generator, thing)
    while second == first:
        second = _review(generator, thing)
    scores = (true_reward(first), true_reward(second))
    first_wins = generator.random() < _win_probability(scores[0], scores[1], reward_scale)
    ranking = (0, 1) if first_wins else (1, 0)
    return _example(thing, (first, second), scores, ranking, "all", reward_scale, source)


def _list(
    generator: random.Random, reward_scale: float, source: str, *, num_responses: int, pairs: PairsRule
) -> Example:
    """Different reviews of one thing, in an order drawn from Plackett-Luce."""
    thing = generator.choice(list(ASPECTS))
    reviews_drawn: list[str] = []
    while len(reviews_drawn) < num_responses:
        review = _review(generator, thing)
        if review not in reviews_drawn:
            reviews_drawn.append(review)
    scores = tuple(true_reward(review) for review in reviews_drawn)
    left, ranking = list(range(num_responses)), []
    while left:
        best = max(scores[index] for index in left)
        weights = [math.exp(reward_scale * (scores[index] - best)) for index in left]
        ranking.append(generator.choices(left, weights)[0])
        left.remove(ranking[-1])
    return _example(thing, tuple(reviews_drawn), scores, tuple(ranking), pairs, reward_scale, source)


def _example(
    thing: str,
    responses: tuple[str, ...],
    scores: tuple[float, ...],
    ranking: tuple[int, ...],
    pairs: PairsRule,
    reward_scale: float,
    source: str,
) -> Example:
    judged = rank_positions(ranking, pairs)
    probabilities = tuple(_win_probability(scores[better], scores[worse], reward_scale) for better, worse in judged)
    return Example(_prompt(thing), responses, judged, scores, source, win_probabilities=probabilities, ranking=ranking)


def _win_probability(reward: float, other: float, reward_scale: float) -> float:
    """Bradley-Terry: sigmoid of the scaled difference. exp overflows beyond 709, where the probability is 0 anyway."""
    return 1 / (1 + math.exp(min(-reward_scale * (reward - other), 700.0)))


def _demonstration(generator: random.Random, index: int) -> Example:
    thing = generator.choice(list(ASPECTS))
    review = _review(generator, thing)
    return Example(_prompt(thing), (review,), (), (true_reward(review),), f"reviews demonstration {index}")


def _prompt(thing: str) -> str:
    return f"Review of a {thing}:"


def _review(generator: random.Random, thing: str) -> str:
    clauses = [_clause(generator, thing) for _ in range(generator.randint(2, 4))]
    return "".join(f" {clause[0].upper()}{clause[1:]}." for clause in clauses)


def _clause(generator: random.Random, thing: str) -> str:
    words = generator.choices((PRAISE, BLAME, NEITHER), weights=SHARES)[0]
    return generator.choice(OPENERS).format(
        aspect=generator.choice(ASPECTS[thing]), degree=generator.choice(DEGREES), word=generator.choice(words)
    )
