"""What a classifier, a span reader and a recommender answer to held-out examples, in full: figures, rows, tables."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from dpo_lab.answers import exact_match, token_f1
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.evaluation.answers import best_answers, class_log_probs, gold_classes, readable, right_answers
from dpo_lab.evaluation.classes import (
    brier_scores,
    calibration_bins,
    calibration_error,
    chance_calibration_error,
    class_f1,
    confusion_counts,
    macro_f1,
)
from dpo_lab.evaluation.figure import Measured, bootstrap_figure, mean_figure, share_figure
from dpo_lab.evaluation.next_items import ranked_items
from dpo_lab.evaluation.ranking import ranking_figures
from dpo_lab.model.class_policy import Classifier
from dpo_lab.model.policy import Policy
from dpo_lab.model.recommender_policy import Recommender
from dpo_lab.model.span_policy import SpanReader, read_prompt
from dpo_lab.types import Example


def measure_answers(policy: Policy, source: DataSource, name: str, cutoffs: Sequence[int]) -> Measured | None:
    """Everything about the present answers of `policy` to one of the sets of `source`; None where it writes text.

    Args:
        cutoffs: of a recommender, the numbers of places that NDCG and hit rate look at.

    Raises:
        UserError: there is nothing to answer.
    """
    examples = source.sets[name]
    was_training = policy.training
    policy.eval()
    try:
        if isinstance(policy, Classifier):
            return _classes(policy, examples, source.max_length)
        if isinstance(policy, SpanReader):
            return _spans(policy, examples, source.max_length)
        return _next_items(policy, source, name, cutoffs) if isinstance(policy, Recommender) else None
    finally:
        policy.train(was_training)


def _classes(policy: Classifier, examples: Sequence[Example], max_length: int) -> Measured:
    """Each text is by itself: `accuracy`, `macro_f1`, `log_loss` (nats), `brier`, `calibration_error`."""
    gold = gold_classes(policy, examples)
    log_probs = class_log_probs(policy, readable(policy, examples, max_length))
    probability, decided, num_classes = np.exp(log_probs), log_probs.argmax(1), len(policy.classes)
    confidence, is_right = probability.max(1), (decided == gold).astype(float)
    counts, texts = confusion_counts(gold, decided, num_classes), range(len(gold))
    cell = gold * num_classes + decided

    def drawn_macro_f1(times: np.ndarray) -> float:
        drawn = np.bincount(cell, weights=times, minlength=num_classes**2)
        return macro_f1(drawn.reshape(num_classes, num_classes).astype(np.int64))

    figures = {
        "accuracy": share_figure(is_right.tolist(), texts),
        "macro_f1": bootstrap_figure(drawn_macro_f1, len(gold)),
        "log_loss": mean_figure((-log_probs[np.arange(len(gold)), gold]).tolist(), texts),
        "brier": mean_figure(brier_scores(gold, probability).tolist(), texts),
        "calibration_error": bootstrap_figure(
            lambda times: calibration_error(confidence, is_right, times),
            len(gold),
            by_chance=partial(chance_calibration_error, confidence),
        ),
    }
    rows = [
        {
            "source": example.source,
            "gold": policy.classes[right],
            "decided": policy.classes[given],
            "probability": float(probability[index, given]),
            "gold_probability": float(probability[index, right]),
        }
        for index, (example, right, given) in enumerate(zip(examples, gold, decided, strict=True))
    ]
    details: dict[str, Any] = {
        "classes": list(policy.classes),
        "confusion": counts.tolist(),
        "class_f1": class_f1(counts).tolist(),
        "calibration_bins": [bin._asdict() for bin in calibration_bins(confidence, is_right)],
    }
    return Measured(figures, rows, details)


def _spans(policy: SpanReader, examples: Sequence[Example], max_length: int) -> Measured:
    """Questions about one passage may err together: `exact_match`, `token_f1`."""
    answers = best_answers(policy, examples, readable(policy, examples, max_length), 1)
    rows, passages = [], []
    for example, best in zip(examples, answers, strict=True):
        turn, log_prob = best[0]
        right = right_answers(example)
        passage, question = read_prompt(example)
        passages.append(passage)
        rows.append(
            {
                "source": example.source,
                "question": question,
                "answer": turn["content"],
                "right": right,
                "exact_match": exact_match(turn["content"], right),
                "token_f1": token_f1(turn["content"], right),
                "log_prob": log_prob,
            }
        )
    figures = {name: share_figure([row[name] for row in rows], passages) for name in ("exact_match", "token_f1")}
    return Measured(figures, rows, {"num_passages": len(set(passages))})


def _next_items(policy: Recommender, source: DataSource, name: str, cutoffs: Sequence[int]) -> Measured:
    """Each history is by itself: `ndcg@k`, `hit@k`, `mrr`, and the same of the ranking by popularity."""
    found = ranked_items(policy, source, name)
    if found is None:
        raise UserError(f"no row of {name} has a single next item, so there is nothing to rank")
    rows = [
        {"source": source, "item": policy.catalogue[item], "rank": rank, "popularity_rank": popular}
        for source, item, rank, popular in zip(
            found.sources, found.target.tolist(), found.ranks.tolist(), found.popularity_ranks.tolist(), strict=True
        )
    ]
    figures = ranking_figures(found.ranks, found.popularity_ranks, cutoffs)
    return Measured(figures, rows, {"num_items": len(policy.catalogue), "cutoffs": list(cutoffs)})
