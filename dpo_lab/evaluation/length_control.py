"""A win rate as it would be between responses of the same length."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float

from dpo_lab.evaluation.figure import Figure
from dpo_lab.intervals import share, student

PRIOR_SD = 2.5
"""Of the normal prior of the length coefficient, in logits: it decides only where length alone foretells every verdict,
and the likelihood has no largest value. The coefficient that is reported has none."""
NUM_STEPS = 100


def controlled_win_rate(
    scores: Sequence[float], length_differences: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[Figure, float]:
    """The length-controlled win rate of Dubois et al. 2024 (AlpacaEval 2, arXiv 2404.04475), and its coefficient.

    Fitted to the scores by maximum likelihood is

        logit P(first wins) = theta + phi tanh(d / sd(d)),    d = length of the first response less that of the second,

    and the figure is the sigmoid of theta: what the fit says of responses of one length. Their third term, how hard an
    instruction is, takes many models to fit and is left out; phi has a weak normal prior (`PRIOR_SD`). Where all
    lengths are equal it is the plain win rate, and with the sides changed it is 1 less.

    Args:
        scores: of each contest, in [0, 1]; at least one.
        length_differences: first less second, in any unit.
        clusters: contests of one cluster may err together.

    Returns:
        The figure; and phi, in logits: above 0 the judge prefers what is longer.
    """
    won, difference = np.asarray(scores, dtype=np.float64), np.asarray(length_differences, dtype=np.float64)
    num_clusters = len(set(clusters))
    plain = share(scores, clusters)
    assert plain is not None
    spread = float(np.sqrt((difference**2).mean() - difference.mean() ** 2)) if len(difference) else 0.0
    feature = np.tanh(difference / spread) if spread > 1e-12 * max(1.0, float(np.abs(difference).max())) else None
    if np.ptp(won) == 0 or feature is None or np.ptp(feature) == 0:
        # Nothing to fit: every contest ended alike, or lengths do not differ from contest to contest.
        return Figure(*plain, num_clusters=num_clusters, interval="wilson"), 0.0
    design = np.stack([np.ones_like(feature), feature], axis=1)
    coefficients = _fit(design, won)
    error = _sandwich_error(design, won, coefficients, clusters)
    theta = float(coefficients[0])
    half = student(num_clusters - 1) * error if num_clusters > 1 else 0.0
    value, low, high = _sigmoid(theta + half * np.array([0.0, -1.0, 1.0])).tolist()
    if num_clusters == 1:  # which tells nothing of others
        low = high = float("nan")
    return Figure(value, low, high, len(won), num_clusters, "sandwich"), float(coefficients[1])


def _fit(design: Float[np.ndarray, " n 2"], won: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 2"]:
    """Newton's method on the penalised likelihood, halving steps that do not raise it."""
    coefficients = np.zeros(2)
    best = _penalised(design, won, coefficients)
    for _ in range(NUM_STEPS):
        gradient = design.T @ (won - _sigmoid(design @ coefficients)) - _pull(coefficients)
        step = np.linalg.solve(_information(design, coefficients), gradient)
        while (found := _penalised(design, won, coefficients + step)) < best and np.abs(step).max() > 1e-12:
            step = step / 2
        coefficients = coefficients + step
        best = max(best, found)
        if np.abs(step).max() < 1e-12:
            break
    return coefficients


def _penalised(design: np.ndarray, won: np.ndarray, coefficients: np.ndarray) -> float:
    logit = design @ coefficients
    return float((won * logit - np.logaddexp(0.0, logit)).sum() - coefficients[1] ** 2 / (2 * PRIOR_SD**2))


def _pull(coefficients: np.ndarray) -> np.ndarray:
    """Of the prior, on the length coefficient alone."""
    return np.array([0.0, coefficients[1] / PRIOR_SD**2])


def _information(design: np.ndarray, coefficients: np.ndarray) -> Float[np.ndarray, " 2 2"]:
    chance = _sigmoid(design @ coefficients)
    return (design * (chance * (1 - chance))[:, None]).T @ design + np.diag([0.0, 1 / PRIOR_SD**2])


def _sandwich_error(
    design: np.ndarray, won: np.ndarray, coefficients: np.ndarray, clusters: Sequence[Hashable]
) -> float:
    """Standard error of theta, over clusters (Liang and Zeger 1986, with the correction G / (G - 1))."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    scores = design * (won - _sigmoid(design @ coefficients))[:, None]
    sums = np.zeros((len(numbers), 2))
    np.add.at(sums, [numbers[cluster] for cluster in clusters], scores)
    if len(numbers) < 2:
        return float("nan")
    bread = np.linalg.inv(_information(design, coefficients))
    variance = bread @ (sums.T @ sums * len(numbers) / (len(numbers) - 1)) @ bread
    return float(np.sqrt(variance[0, 0]))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -logit))
