"""How well numbers of responses agree with what the data has judged: in pairs, in lists, or one by one."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from dpo_lab.evaluation.figure import Figure, bootstrap_figure, share_figure

REWARD = ""
LENGTH = "by_length/"
REFERENCE = "by_reference/"
LARGEST_TIE = {REWARD: 0.0, LENGTH: 0.0, REFERENCE: 1e-4}
"""Numbers that are no further apart are the same: two ways of computing a log-probability (nats) may differ by that."""


@final
@dataclass(frozen=True)
class JudgedResponses:
    """Responses that were judged, and what would tell them apart.

    Attributes:
        scores: by the beginning of a figure's name (`REWARD`, `LENGTH`, `REFERENCE`), a number for each response.
        prompts: of each response; what answers one prompt may err together.
        pairs: (better, worse) responses, of pairs and lists.
        labels: of each response: 1 good, 0 bad, -1 not judged; empty where pairs were judged.
    """

    scores: Mapping[str, Sequence[float]]
    prompts: Sequence[Hashable]
    pairs: Sequence[tuple[int, int]] = ()
    labels: Sequence[int] = field(default=())


def judgement_figures(judged: JudgedResponses) -> dict[str, Figure]:
    """Of pairs and of lists ``accuracy``, the share of pairs in which the better response has the larger number, a tie
    counting one half; of single judgements ``auc``, the probability that a good one has a larger number than a bad one
    (area under the ROC curve). Each by reward, and beside it by length (longer is better) and by the log-probability of
    the reference. Nothing where nothing was judged.
    """
    if judged.pairs:
        prompts = [judged.prompts[better] for better, _ in judged.pairs]
        return {
            f"{name}accuracy": share_figure(
                [_win(values[better] - values[worse], LARGEST_TIE[name]) for better, worse in judged.pairs], prompts
            )
            for name, values in judged.scores.items()
        }
    if {0, 1} <= set(judged.labels):
        return {f"{name}auc": _auc_figure(values, judged) for name, values in judged.scores.items()}
    return {}


def _win(difference: float, largest_tie: float) -> float:
    return 0.5 if abs(difference) <= largest_tie else float(difference > 0)


def _auc_figure(values: Sequence[float], judged: JudgedResponses) -> Figure:
    """Prompts are drawn, with all their responses."""
    kept = [number for number, label in enumerate(judged.labels) if label >= 0]
    scores, is_good = np.array([values[number] for number in kept]), np.array([judged.labels[n] for n in kept]) == 1
    numbers: dict[Hashable, int] = {}
    prompt = np.array([numbers.setdefault(judged.prompts[number], len(numbers)) for number in kept])
    measure = _auc_of(scores, is_good)
    return bootstrap_figure(lambda times: measure(times[prompt]), len(numbers))


def _auc_of(scores: np.ndarray, is_good: np.ndarray) -> Callable[[np.ndarray], float]:
    """Takes how often each response counts to the area under the ROC curve; one half where one side is missing."""
    order = np.argsort(scores, kind="stable")
    _, level = np.unique(scores[order], return_inverse=True)
    sorted_good = is_good[order]

    def measure(times: np.ndarray) -> float:
        weight = times[order]
        good, bad = (np.bincount(level, weights=np.where(side, weight, 0)) for side in (sorted_good, ~sorted_good))
        if not good.sum() or not bad.sum():
            return 0.5
        below = np.cumsum(bad) - bad
        return float((good * (below + bad / 2)).sum() / (good.sum() * bad.sum()))

    return measure
