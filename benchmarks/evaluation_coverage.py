"""How often the 95 % intervals of an evaluation hold the truth, on made-up contests, answers and classes.

    python benchmarks/evaluation_coverage.py            500 evaluations of each shape, 5000 of each kind of fractions
    python benchmarks/evaluation_coverage.py 100        fewer

Contests: prompts differ in how often the policy wins them (a normal effect with standard deviation 1, in logits), and
the judge likes length (coefficient 1). The truth of a figure is what it comes to over 400,000 prompts. Classes: four,
with probabilities that are right, and with the same made too sure; the truth is that of 1,000,000 texts. Fractions: of
single rows, whose truth is the mean of 4,000,000: of a right item at a rank that is log-normal, NDCG@10 of a poor and
of a good recommender and MRR of the poor one; token F1 of a poor and of a fair reader, 0, 1 or a share of the words.
Of a few contests for each prompt: wins, ties (half a win) and defeats, with prompts that differ as above.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dpo_lab.evaluation.classes import (  # noqa: E402 - found by the line above
    calibration_error,
    chance_calibration_error,
    confusion_counts,
    macro_f1,
)
from dpo_lab.evaluation.figure import Figure, bootstrap_figure, share_figure  # noqa: E402
from dpo_lab.evaluation.length_control import controlled_win_rate  # noqa: E402

CONTESTS = ((5, 100), (20, 5), (50, 1), (200, 1), (100, 5))
TEXTS = (100, 500)
ROWS = (15, 60, 200, 600)
TIED_CONTESTS = ((5, 3), (15, 4), (50, 4), (200, 3))
NUM_CLASSES = 4


def contests(generator: np.random.Generator, num_prompts: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, length differences (characters), and the prompt of each contest."""
    prompt = np.repeat(np.arange(num_prompts), each)
    length = generator.normal(40, 100, size=num_prompts * each)
    logit = 0.3 + generator.normal(size=num_prompts)[prompt] + np.tanh(length / 100)
    return (generator.uniform(size=len(length)) < 1 / (1 + np.exp(-logit))).astype(float), length, prompt


def tied_contests(generator: np.random.Generator, num_prompts: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in 0, 1/2 and 1, and the prompt of each contest."""
    prompt = np.repeat(np.arange(num_prompts), each)
    lead = 0.3 + generator.normal(size=num_prompts)[prompt] + generator.logistic(size=len(prompt))
    return np.where(lead > 1, 1.0, np.where(lead < -1, 0.0, 0.5)), prompt


def ranks(generator: np.random.Generator, num: int, mean: float, spread: float) -> np.ndarray:
    return 1 + np.floor(np.exp(generator.normal(mean, spread, size=num)))


def ndcg(rank: np.ndarray) -> np.ndarray:
    return np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)


def token_f1s(generator: np.random.Generator, num: int, none: float, right: float) -> np.ndarray:
    """0 with probability `none`, 1 with `right`, else something between."""
    kind, part = generator.uniform(size=num), generator.beta(2, 3, size=num)
    return np.where(kind < none, 0.0, np.where(kind < none + right, 1.0, part))


FRACTIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "ndcg@10, poor": lambda generator, num: ndcg(ranks(generator, num, 4.5, 1.8)),
    "ndcg@10, good": lambda generator, num: ndcg(ranks(generator, num, 0.3, 0.8)),
    "mrr, poor": lambda generator, num: 1 / ranks(generator, num, 4.5, 1.8),
    "token_f1, poor": lambda generator, num: token_f1s(generator, num, 0.87, 0.01),
    "token_f1, fair": lambda generator, num: token_f1s(generator, num, 0.5, 0.2),
}


def classes(generator: np.random.Generator, num: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Gold classes, and the probabilities that a classifier gives; right at sharpness 1, too sure above."""
    logits = generator.normal(size=(num, NUM_CLASSES)) * 1.5
    gold = np.array((logits + generator.gumbel(size=logits.shape)).argmax(1))
    scaled = np.exp(sharpness * logits)
    return gold, scaled / scaled.sum(1, keepdims=True)


def figures_of_classes(gold: np.ndarray, probability: np.ndarray) -> dict[str, Callable[[np.ndarray], float]]:
    decided, confidence = probability.argmax(1), probability.max(1)
    is_right, cell = (decided == gold).astype(float), gold * NUM_CLASSES + decided

    def drawn_macro_f1(times: np.ndarray) -> float:
        counts = np.bincount(cell, weights=times, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)
        return macro_f1(counts.astype(np.int64))

    return {
        "macro_f1": drawn_macro_f1,
        "calibration_error": lambda times: calibration_error(confidence, is_right, times),
    }


def holds(figure: Figure, truth: float) -> bool:
    return figure.low <= truth <= figure.high


def print_fractions(count: int) -> None:
    for name, draw in FRACTIONS.items():
        truth = float(draw(np.random.default_rng(10**6), 4_000_000).mean())
        shown = []
        for num in ROWS:
            drawn = (draw(np.random.default_rng(seed), num) for seed in range(count))
            shown.append(coverage([share_figure(values.tolist(), range(num)) for values in drawn], truth))
        print(f"{name} (truth {truth:.3f}), {', '.join(map(str, ROWS))} rows: {', '.join(shown)}", flush=True)
    truth = float(tied_contests(np.random.default_rng(10**6), 1_000_000, 1)[0].mean())
    shown = []
    for num_prompts, each in TIED_CONTESTS:
        drawn = (tied_contests(np.random.default_rng(seed), num_prompts, each) for seed in range(count))
        figures = [share_figure(scores.tolist(), prompts.tolist()) for scores, prompts in drawn]
        shown.append(f"{num_prompts} x {each}: {coverage(figures, truth)}")
    print(f"win rate with ties (truth {truth:.3f}), prompts x contests: {', '.join(shown)}", flush=True)


def coverage(figures: Sequence[Figure], truth: float) -> str:
    """How many hold the truth, and how wide they are in the mean."""
    width = np.mean([figure.high - figure.low for figure in figures])
    return f"{np.mean([holds(figure, truth) for figure in figures]):.1%} ({width:.3f})"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"{10 * count} evaluations of each kind of fractions; how often the truth is held, and the mean width")
    print_fractions(10 * count)
    scores, lengths, prompts = contests(np.random.default_rng(10**6), 400_000, 1)
    truth = float(scores.mean()), controlled_win_rate(scores.tolist(), lengths.tolist(), prompts.tolist())[0].value
    print(f"{count} evaluations of each shape; the truth: win rate {truth[0]:.3f}, length-controlled {truth[1]:.3f}")
    for num_prompts, each in CONTESTS:
        held = []
        for seed in range(count):
            scores, lengths, prompts = contests(np.random.default_rng(seed), num_prompts, each)
            plain = share_figure(scores.tolist(), prompts.tolist())
            controlled, _ = controlled_win_rate(scores.tolist(), lengths.tolist(), prompts.tolist())
            held.append([holds(plain, truth[0]), holds(controlled, truth[1])])
        rates = np.mean(held, axis=0)
        print(
            f"{num_prompts:4} prompts x {each:3}: win rate {rates[0]:.1%}, length-controlled {rates[1]:.1%}", flush=True
        )
    for sharpness in (1.0, 1.5):
        gold, probability = classes(np.random.default_rng(10**6), 1_000_000, sharpness)
        found = confusion_counts(gold, probability.argmax(1), NUM_CLASSES)
        confidence, is_right = probability.max(1), (probability.argmax(1) == gold).astype(float)
        truths = {"macro_f1": macro_f1(found), "calibration_error": calibration_error(confidence, is_right)}
        for num in TEXTS:
            kept: dict[str, list[bool]] = {name: [] for name in truths}
            for seed in range(count):
                gold, probability = classes(np.random.default_rng(seed), num, sharpness)
                statistics = figures_of_classes(gold, probability)
                for name, statistic in statistics.items():
                    chance = partial(chance_calibration_error, probability.max(1))
                    by_chance = chance if name == "calibration_error" else None
                    kept[name].append(holds(bootstrap_figure(statistic, num, by_chance=by_chance), truths[name]))
            shown = ", ".join(
                f"{name} {np.mean(values):.1%} (truth {truths[name]:.3f})" for name, values in kept.items()
            )
            print(f"{num:5} texts, sharpness {sharpness:g}: {shown}", flush=True)


if __name__ == "__main__":
    main()
