"""What a recommender makes of held-out items: each ranked in the whole catalogue, beside what popularity gives."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo_lab.data.fit_length import fit_length
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.source import DataSource
from dpo_lab.evaluation.answers import Measure
from dpo_lab.evaluation.ranking import ranking_measures, ranks_of
from dpo_lab.intervals import share
from dpo_lab.model.recommender_policy import Recommender
from dpo_lab.types import Encoded, Example

BATCH = 256


def next_item_measure(policy: Recommender, source: DataSource) -> Measure:
    """NDCG, hit rate and MRR of the items that came next; ``_ci95`` is half the width of a 95 % interval over users.

    Ranked is the whole catalogue without what the history holds. ``popularity/...`` are the same measures of the
    ranking by how often an item comes next in training rows. Nothing where no example has a single next item.
    """
    popularity = cache(lambda: _popularity(policy, source))
    histories = cache(lambda name: _histories(policy, source, name))

    def measure(name: str) -> dict[str, float]:
        found = _rank(policy, source, histories(name), popularity)
        if found is None:
            return {}
        popular = _summary(found.popularity_ranks)
        return _summary(found.ranks) | {f"popularity/{name}": value for name, value in popular.items()}

    return measure


class RankedItems(NamedTuple):
    """Of each history, named by `sources`: the item that came next, and its place in the ranking of the policy and in
    that by popularity; 1 is the best."""

    sources: list[str]
    target: Int[Tensor, " n"]
    ranks: Int[Tensor, " n"]
    popularity_ranks: Int[Tensor, " n"]


def ranked_items(policy: Recommender, source: DataSource, name: str) -> RankedItems | None:
    """How one of the sets of `source` is ranked now; None where no example of it has a single next item."""
    return _rank(policy, source, _histories(policy, source, name), lambda: _popularity(policy, source))


class _Histories(NamedTuple):
    sources: list[str]
    encoded: list[Encoded]


def _histories(policy: Recommender, source: DataSource, name: str) -> _Histories:
    pairs = zip(source.sets[name], policy.encode(source.sets[name]), strict=True)
    found = [(example.source, one) for example, encoded in pairs if (one := _single_next(example, encoded)) is not None]
    return _Histories([place for place, _ in found], [one for _, one in found])


def _rank(
    policy: Recommender, source: DataSource, histories: _Histories, popularity: Callable[[], Tensor]
) -> RankedItems | None:
    encoded = histories.encoded
    if not encoded:
        return None
    target = torch.tensor([one.responses[0][0] for one in encoded])
    excluded = _excluded(encoded, len(policy.catalogue))
    own = ranks_of(_scores(policy, encoded, source.max_length), target, excluded)
    popular = ranks_of(popularity().expand(len(encoded), -1), target, excluded)
    return RankedItems(histories.sources, target, own, popular)


def _single_next(example: Example, encoded: Encoded) -> Encoded | None:
    """The history with the item that came next as its only response; None where several came."""
    chosen = [encoded.responses[index] for index in Judgement.of(example).chosen()[:1]]
    return Encoded(encoded.prompt, tuple(chosen)) if chosen and len(chosen[0]) == 1 else None


def _scores(policy: Recommender, histories: Sequence[Encoded], max_length: int) -> Float[Tensor, " n v"]:
    """Log-probability of every item, nats; the model reads what fits into `max_length`, as in training."""
    was_training = policy.training
    policy.eval()
    shown = [fit_length(history, max_length, "truncate").encoded or history for history in histories]
    parts = [policy.next_item_log_probs(shown[start : start + BATCH]).cpu() for start in range(0, len(shown), BATCH)]
    policy.train(was_training)
    return torch.cat(parts)


def _excluded(histories: Sequence[Encoded], num_items: int) -> Bool[Tensor, " n v"]:
    excluded = torch.zeros(len(histories), num_items, dtype=torch.bool)
    for row, history in zip(excluded, histories, strict=True):
        row[list(history.prompt)] = True
    return excluded


def _popularity(policy: Recommender, source: DataSource) -> Float[Tensor, " v"]:
    """How often the supervised stage's histories hold each item."""
    counts: Counter[int] = Counter()
    for encoded in policy.encode(source.demonstrations):
        counts.update(item for response in encoded.responses for item in response)
    return torch.tensor([float(counts[item]) for item in range(len(policy.catalogue))])


def _summary(ranks: Int[Tensor, " n"]) -> dict[str, float]:
    row = {}
    for name, values in ranking_measures(ranks).items():
        if found := share(values.tolist(), range(len(values))):
            row[name], row[f"{name}_ci95"] = found.estimate, found.half_width
    return row
