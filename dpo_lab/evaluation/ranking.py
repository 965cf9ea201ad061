"""How high a recommender ranks the item that came next, among all that it could recommend."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo_lab.evaluation.figure import Figure, share_figure


def ranks_of(
    scores: Float[Tensor, " n v"], target: Int[Tensor, " n"], excluded: Bool[Tensor, " n v"]
) -> Int[Tensor, " n"]:
    """Place of each `target` when the items that are not `excluded` are sorted by falling score; 1 is the best.

    An item with the same score stands before it: whoever scores all items alike ranks nothing.

    >>> scores = torch.tensor([[0.1, 0.9, 0.5, 0.5]])
    >>> ranks_of(scores, torch.tensor([2]), torch.tensor([[False, True, False, False]]))
    tensor([2])

    Args:
        scores: larger is better.
        excluded: what is not to be recommended, as it was seen; the target counts, whatever stands there.
    """
    own = scores.gather(1, target[:, None])
    rivals = (scores >= own) & ~excluded
    rivals = rivals.scatter(1, target[:, None], False)
    return 1 + rivals.sum(1)


def ranking_measures(ranks: Int[Tensor, " n"], *, cutoff: int = 10) -> dict[str, Float[Tensor, " n"]]:
    """Of each ranking with one right item at `ranks`, each in [0, 1]: by name

    * ``ndcg@10``: 1 / log2(1 + rank) within the first `cutoff` places, else 0 (Järvelin and Kekäläinen 2002; with one
      right item the ideal is 1);
    * ``hit@10``: whether it is within the first `cutoff` places;
    * ``mrr``: 1 / rank, without a cut-off.

    >>> {name: round(float(value), 3) for name, value in ranking_measures(torch.tensor([3])).items()}
    {'ndcg@10': 0.5, 'hit@10': 1.0, 'mrr': 0.333}
    """
    place = ranks.double()
    is_hit = ranks <= cutoff
    return {
        f"ndcg@{cutoff}": torch.where(is_hit, 1 / torch.log2(1 + place), 0.0),
        f"hit@{cutoff}": is_hit.double(),
        "mrr": 1 / place,
    }


def ranking_figures(
    ranks: Int[Tensor, " n"], popularity_ranks: Int[Tensor, " n"], cutoffs: Sequence[int]
) -> dict[str, Figure]:
    """Each ranking is by itself: `ndcg@k`, `hit@k` for each of `cutoffs`, `mrr`, and ``popularity/...``."""
    values = {
        f"{prefix}{measure}": measured.tolist()
        for prefix, places in {"": ranks, "popularity/": popularity_ranks}.items()
        for cutoff in cutoffs
        for measure, measured in ranking_measures(places, cutoff=cutoff).items()
    }
    return {measure: share_figure(measured, range(len(ranks))) for measure, measured in values.items()}
