"""How often judges of the same thing disagree."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from dpo_lab.audit.judged import as_text
from dpo_lab.data.text_notes import with_images
from dpo_lab.intervals import share_of_sums
from dpo_lab.types import Example


def estimate_noise(examples: Sequence[Example]) -> dict[str, Any]:
    """The share of flipped judgements, from things that were judged more than once.

    Two judgements of one thing disagree with probability 2e(1-e) where each is flipped with probability e by itself.
    `disagreement` is that share among all pairs of judgements of one thing, `flipped` the e that belongs to it.
    Prompts and responses are the same thing where they differ in case and white space only. `declared` is the mean of
    1 - probability over the pairs, where the data gives it. Shares are None where nothing was judged twice.
    """
    votes: defaultdict[tuple[str, ...], Counter[bool]] = defaultdict(Counter)
    for example in examples:
        _vote(example, votes)
    repeated = [counter for counter in votes.values() if counter.total() > 1]
    pairs = [counter.total() * (counter.total() - 1) / 2 for counter in repeated]
    found = share_of_sums([float(counter[True] * counter[False]) for counter in repeated], pairs)
    declared = [1 - p for example in examples for p in example.win_probabilities or ()]
    return {
        "num_judged": len(votes),
        "num_judged_again": len(repeated),
        "num_contradicted": sum(len(counter) > 1 for counter in repeated),
        "disagreement": None if found is None else found.as_dict(),
        "flipped": None if found is None else [flipped(x) for x in (found.estimate, found.low, found.high)],
        "declared": sum(declared) / len(declared) if declared else None,
    }


def flipped(disagreement: float) -> float:
    """The share e of flipped judgements behind a `disagreement` of 2e(1-e); 1/2 from a disagreement of 1/2 on.

    >>> round(flipped(0.18), 6), flipped(0.7)
    (0.1, 0.5)
    """
    return 0.5 if disagreement >= 0.5 else (1 - math.sqrt(1 - 2 * disagreement)) / 2


def _vote(example: Example, votes: defaultdict[tuple[str, ...], Counter[bool]]) -> None:
    prompt = _plain(with_images(example.prompt))
    texts = [_plain(as_text(response)) for response in example.responses]
    for better, worse in example.pairs:
        if texts[better] != texts[worse]:
            first, second = sorted((texts[better], texts[worse]))
            votes[(prompt, first, second)][texts[better] == first] += 1
    for text, label in zip(texts, example.labels or (), strict=False):
        votes[(prompt, text)][label == 1] += 1


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
