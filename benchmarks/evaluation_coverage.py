"""How often the 95 % intervals of an evaluation hold the truth, on made-up contests and made-up classes.

    python benchmarks/evaluation_coverage.py            500 evaluations of each shape
    python benchmarks/evaluation_coverage.py 100        fewer

Contests: prompts differ in how often the policy wins them (a normal effect with standard deviation 1, in logits), and
the judge likes length (coefficient 1). The truth of a figure is what it comes to over 400,000 prompts. Classes: four,
with probabilities that are right, and with the same made too sure; the truth is that of 1,000,000 texts.
"""

import sys
from collections.abc import Callable
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
NUM_CLASSES = 4


def contests(generator: np.random.Generator, num_prompts: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, length differences (characters), and the prompt of each contest."""
    prompt = np.repeat(np.arange(num_prompts), each)
    length = generator.normal(40, 100, size=num_prompts * each)
    logit = 0.3 + generator.normal(size=num_prompts)[prompt] + np.tanh(length / 100)
    return (generator.uniform(size=len(length)) < 1 / (1 + np.exp(-logit))).astype(float), length, prompt


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


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
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
