"""What can be told about a response without understanding it, and how well that alone predicts the judgement."""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from dpo_lab.audit.judged import JudgedPair, Labelled
from dpo_lab.intervals import Share, share

Matrix = NDArray[numpy.float64]

NUM_FOLDS = 5
RIDGE = 1.0
SENTENCE_ENDS = tuple(".!?\"')\u3002\uff01\uff1f\u201d")
"""Also those of Chinese."""

_WORD = re.compile(r"\w+")
_REFUSAL = re.compile(r"\b(i can(no|')?t|i'm sorry|i am sorry|i apologi[sz]e|as an ai|i'm not able|i won't)\b")
_BULLET = re.compile(r"^\s*([-*•]|\d+[.)])\s", re.MULTILINE)


def _share_of(pattern: str) -> Callable[[str, list[str]], float]:
    found = re.compile(pattern)
    return lambda text, words: len(found.findall(text)) / max(1, len(text))


FEATURES: dict[str, Callable[[str, list[str]], float]] = {
    "length": lambda text, words: float(numpy.log1p(len(text))),
    "number of words": lambda text, words: float(numpy.log1p(len(words))),
    "length of a word": lambda text, words: sum(map(len, words)) / max(1, len(words)),
    "share of distinct words": lambda text, words: len(set(words)) / max(1, len(words)),
    "line breaks": lambda text, words: float(numpy.log1p(text.count("\n"))),
    "list items": lambda text, words: float(numpy.log1p(len(_BULLET.findall(text)))),
    "code": lambda text, words: float(text.count("`") > 0),
    "headings or bold": lambda text, words: float("**" in text or "\n#" in text or text.startswith("#")),
    "share of digits": _share_of(r"\d"),
    "share of capitals": _share_of(r"[A-Z]"),
    "share of punctuation": _share_of(r"[^\w\s]"),
    "question marks": lambda text, words: float(numpy.log1p(text.count("?"))),
    "exclamation marks": lambda text, words: float(numpy.log1p(text.count("!"))),
    "words of refusal": lambda text, words: float(_REFUSAL.search(text.lower().replace("\u2019", "'")) is not None),
    "white space first": lambda text, words: float(text[:1].isspace()),
    "white space last": lambda text, words: float(text[-1:].isspace()),
    "ends a sentence": lambda text, words: float(text.rstrip()[-1:] in SENTENCE_ENDS),
    "capital first": lambda text, words: float(text.lstrip()[:1].isupper()),
}
"""Name -> its value for (text, its words in lower case)."""


def features(text: str) -> list[float]:
    """One number for each of `FEATURES`."""
    words = _WORD.findall(text.lower())
    return [feature(text, words) for feature in FEATURES.values()]


def compare_pairs(pairs: Sequence[JudgedPair]) -> dict[str, Any] | None:
    """How well the surface tells chosen from rejected; None for fewer pairs of different prompts than folds.

    `length_only` and `all_features` are accuracies of a logistic regression on differences, of pairs whose prompts it
    has not seen; a tie counts one half. `single`: in which share of pairs chosen has more of a feature.
    """
    clusters = [pair.prompt_id for pair in pairs]
    if len(set(clusters)) < NUM_FOLDS:
        return None
    different = _rows([pair.chosen for pair in pairs]) - _rows([pair.rejected for pair in pairs])
    wins = numpy.ones(len(pairs))
    return {
        "length_only": _share_dict(_validate(different[:, :1], wins, clusters, has_intercept=False)),
        "all_features": _share_dict(_validate(different, wins, clusters, has_intercept=False)),
        "single": _singles(different, clusters),
        "num_folds": NUM_FOLDS,
    }


def compare_labels(responses: Sequence[Labelled]) -> dict[str, Any] | None:
    """The same for desirable and undesirable responses; `majority` is what the commoner label alone scores."""
    clusters = [one.prompt_id for one in responses]
    labels = numpy.asarray([one.label for one in responses], dtype=float)
    if len(set(clusters)) < NUM_FOLDS or len(set(labels.tolist())) < 2:
        return None
    rows = _rows([one.response for one in responses])
    majority = float(labels.mean() >= 0.5)
    return {
        "majority": _share_dict(share((labels == majority).astype(float).tolist(), clusters)),
        "length_only": _share_dict(_validate(rows[:, :1], labels, clusters, has_intercept=True)),
        "all_features": _share_dict(_validate(rows, labels, clusters, has_intercept=True)),
        "single": [],
        "num_folds": NUM_FOLDS,
    }


def fit_logistic(rows: Matrix, targets: Matrix) -> Matrix:
    """Weights of a logistic regression without intercept, by Newton's method; ridge penalty `RIDGE` / 2 each."""
    weights = numpy.zeros(rows.shape[1])
    for _ in range(25):
        predicted = 1 / (1 + numpy.exp(-numpy.clip(rows @ weights, -30, 30)))
        gradient = rows.T @ (predicted - targets) + RIDGE * weights
        curvature = (rows * (predicted * (1 - predicted))[:, None]).T @ rows + RIDGE * numpy.eye(len(weights))
        step = numpy.linalg.solve(curvature, gradient)
        weights -= step
        if float(numpy.abs(step).max()) < 1e-8:
            break
    return weights


def _rows(texts: Sequence[str]) -> Matrix:
    known = {text: features(text) for text in dict.fromkeys(texts)}
    return numpy.asarray([known[text] for text in texts], dtype=float).reshape(len(texts), len(FEATURES))


def _validate(rows: Matrix, targets: Matrix, clusters: Sequence[int], *, has_intercept: bool) -> Share | None:
    """Accuracy on folds that share no prompt with what the weights were fitted on; ties count one half."""
    places = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    fold = numpy.asarray([places[cluster] % NUM_FOLDS for cluster in clusters])
    correct = numpy.empty(len(targets))
    for held_out in range(NUM_FOLDS):
        inside, outside = fold != held_out, fold == held_out
        centre = rows[inside].mean(0) if has_intercept else numpy.zeros(rows.shape[1])
        scale = numpy.sqrt(((rows[inside] - centre) ** 2).mean(0))
        scaled = (rows - centre) / numpy.where(scale > 0, scale, 1.0)
        if has_intercept:
            scaled = numpy.column_stack([scaled, numpy.ones(len(scaled))])
        score = scaled[outside] @ fit_logistic(scaled[inside], targets[inside])
        correct[outside] = numpy.where(score == 0, 0.5, (score > 0) == (targets[outside] > 0.5))
    return share(correct.tolist(), clusters)


def _singles(different: Matrix, clusters: Sequence[Hashable]) -> list[dict[str, Any]]:
    found = []
    for index, name in enumerate(FEATURES):
        more = (numpy.sign(different[:, index]) + 1) / 2
        one = share(more.tolist(), clusters)
        if one is not None:
            found.append({"feature": name, "num_different": int((more != 0.5).sum()), **one.as_dict()})
    return sorted(found, key=lambda one: -abs(one["estimate"] - 0.5))


def _share_dict(value: Share | None) -> dict[str, Any] | None:
    return None if value is None else value.as_dict()
