"""Measures of decisions between classes, from what a model gave each class and which was right."""

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


def calibration_error(confidence: Float[np.ndarray, " n"], is_right: Float[np.ndarray, " n"]) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599), in [0, 1].

    Decisions fall into `NUM_BINS` bins of equal width by the probability that was given to what was decided; the mean,
    weighted by size, of how far the mean probability of a bin is from its share of right decisions.
    """
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = [abs(float((confidence - is_right)[bins == number].sum())) for number in range(NUM_BINS)]
    return sum(gaps) / len(confidence)


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
