"""Measures of decisions between classes, from what a model gave each class and which was right."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Confusion = Int[np.ndarray, " classes classes"]
"""``[gold, decided]``: number of texts."""

NUM_BINS = 10


def confusion_counts(gold: Int[np.ndarray, " n"], decided: Int[np.ndarray, " n"], num_classes: int) -> Confusion:
    """
    >>> confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (gold, decided), 1)
    return counts


def accuracy(counts: Confusion) -> float:
    """Share of the texts that were given their gold class, in [0, 1]."""
    return float(np.trace(counts) / counts.sum())


def class_f1(counts: Confusion) -> Float[np.ndarray, " classes"]:
    """Of each class 2 hits / (texts that are of it + texts that were given it), in [0, 1]; 0 of no text."""
    hits, involved = np.diag(counts).astype(float), counts.sum(0) + counts.sum(1)
    return np.divide(2 * hits, involved, out=np.zeros_like(hits), where=involved > 0)


def macro_f1(counts: Confusion) -> float:
    """Mean of `class_f1` over the classes that texts are of, each counting the same, in [0, 1].

    >>> round(macro_f1(np.array([[1, 1], [0, 1]])), 3)  # 2/3 for both
    0.667
    """
    return float(class_f1(counts)[counts.sum(1) > 0].mean())


class Bin(NamedTuple):
    """Decisions whose probability is in ``[low, high)``, in the last bin ``[low, high]``.

    `confidence` is the mean of the probabilities that were given to what was decided, `accuracy` the share of right
    decisions; both nan where there is none.
    """

    low: float
    high: float
    num: int
    confidence: float
    accuracy: float


def calibration_bins(confidence: Float[np.ndarray, " n"], is_right: Float[np.ndarray, " n"]) -> list[Bin]:
    """Decisions in `NUM_BINS` bins of equal width, by the probability that was given to what was decided."""
    numbers = _bin_numbers(confidence)
    bins = []
    for number in range(NUM_BINS):
        inside = numbers == number
        means = [float(values[inside].mean()) if inside.any() else float("nan") for values in (confidence, is_right)]
        bins.append(Bin(number / NUM_BINS, (number + 1) / NUM_BINS, int(inside.sum()), *means))
    return bins


def calibration_error(
    confidence: Float[np.ndarray, " n"],
    is_right: Float[np.ndarray, " n"],
    times: Int[np.ndarray, " n"] | None = None,
) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599), in [0, 1].

    Decisions fall into `NUM_BINS` bins of equal width by the probability that was given to what was decided; the mean,
    weighted by size, of how far the mean probability of a bin is from its share of right decisions.

    Args:
        times: how often each decision counts; once where None.
    """
    counted = np.ones(len(confidence)) if times is None else times
    gaps = np.bincount(_bin_numbers(confidence), weights=counted * (confidence - is_right), minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / counted.sum())


def chance_calibration_error(confidence: Float[np.ndarray, " n"], generator: np.random.Generator) -> float:
    """A draw of `calibration_error` were every probability right: what chance makes of as many decisions."""
    return calibration_error(confidence, (generator.uniform(size=len(confidence)) < confidence).astype(float))


def _bin_numbers(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)


def brier_scores(gold: Int[np.ndarray, " n"], probability: Float[np.ndarray, " n classes"]) -> Float[np.ndarray, " n"]:
    """Of each text the sum over classes of (probability - whether it is the gold one)^2, in [0, 2] (Brier 1950).

    >>> brier_scores(np.array([0]), np.array([[0.5, 0.25, 0.25]])).tolist()  # 0.25 + 0.0625 + 0.0625
    [0.375]
    """
    is_gold = np.zeros_like(probability)
    is_gold[np.arange(len(gold)), gold] = 1.0
    return ((probability - is_gold) ** 2).sum(1)


def class_measures(gold: Int[np.ndarray, " n"], log_probs: Float[np.ndarray, " n classes"]) -> dict[str, float]:
    """`accuracy`, `macro_f1`, `log_loss` (mean of -log p of the gold class, nats) and `calibration_error`."""
    decided = log_probs.argmax(1)
    counts = confusion_counts(gold, decided, log_probs.shape[1])
    return {
        "accuracy": accuracy(counts),
        "macro_f1": macro_f1(counts),
        "log_loss": float(-log_probs[np.arange(len(gold)), gold].mean()),
        "calibration_error": calibration_error(np.exp(log_probs.max(1)), (decided == gold).astype(float)),
    }
