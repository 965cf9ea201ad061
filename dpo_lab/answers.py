"""How well one short answer says what another says: the measures of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250)."""

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, words between single spaces.

    >>> normalise_answer("The  Denver Broncos!")
    'denver broncos'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: Iterable[str]) -> float:
    """1 where `answer` is one of the `right` ones once both are normalised, else 0."""
    normal = normalise_answer(answer)
    return float(any(normal == normalise_answer(other) for other in right))


def token_f1(answer: str, right: Iterable[str]) -> float:
    """Harmonic mean of precision and recall of the words of `answer`, against the `right` one where it is highest.

    >>> token_f1("the Denver Broncos team", ["Denver Broncos"])
    0.8
    """
    return max((_f1(normalise_answer(answer).split(), normalise_answer(other).split()) for other in right), default=0.0)


def _f1(words: list[str], right: list[str]) -> float:
    if not words or not right:
        return float(words == right)
    shared = sum((Counter(words) & Counter(right)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(words), shared / len(right)
    return 2 * precision * recall / (precision + recall)
