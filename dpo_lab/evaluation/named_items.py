"""What a policy that writes text makes of held-out items: the names of a catalogue, ranked by their log-probability."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.data.fit_length import fit_length
from dpo_lab.data.named_items import NamedItems, NextItem
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.evaluation.figure import Measured
from dpo_lab.evaluation.ranking import ranking_figures, ranks_of
from dpo_lab.model.policy import Policy
from dpo_lab.types import Encoded, Example

Say = Callable[[str], None]

BATCH_TOKENS = 2**13
"""Tokens of one forward pass, as if each name had a prompt of its own."""

NUM_TOP = 10
"""Names that a row shows, best first."""

ALL = "every item that the prompt does not show"
DRAWN = (
    "the item that came next and others that the prompt does not show, drawn uniformly without replacement by a hash "
    "of prompt and item; not the same measure as of all items, and not in proportion to it (Krichene and Rendle 2020, "
    "doi 10.1145/3394486.3403226)"
)


@final
@dataclass(frozen=True)
class NameRanking:
    """How the names of `items` are ranked behind the prompts of `examples`.

    Attributes:
        num_candidates: items beside the right one that are ranked, at most; None: all that the prompt does not show.
    """

    items: NamedItems
    examples: Sequence[tuple[Example, NextItem]]
    max_length: int
    num_candidates: int | None

    @classmethod
    def of(cls, source: DataSource, name: str, num_candidates: int | None) -> "NameRanking":
        """Of one of the sets of `source`, which has `named_items`.

        Raises:
            UserError: no row of it has a next item.
        """
        items = source.named_items
        assert items is not None
        found = [
            (one, next_item) for one in source.sets[name] if (next_item := items.next_item(one.source)) is not None
        ]
        if not found:
            raise UserError(f"no row of {name} has a single next item, so there is nothing to rank")
        return cls(items, found, source.max_length, num_candidates)

    @property
    def num_rows(self) -> int:
        """Names to be scored, over all prompts; names that are the same tokens are scored once."""
        return sum(self._num_candidates(next_item) for _, next_item in self.examples)

    def _num_candidates(self, next_item: NextItem) -> int:
        num_others = len(self.items.ids) - len(set(next_item.shown) | {next_item.item})
        return 1 + (num_others if self.num_candidates is None else min(num_others, self.num_candidates))

    def candidates(self, example: Example, next_item: NextItem) -> list[int]:
        """Numbers of the items that are ranked, in the order of the catalogue; the one that came next is among them."""
        left_out = {*next_item.shown, next_item.item}
        others = [number for number in range(len(self.items.ids)) if number not in left_out]
        if self.num_candidates is not None:
            prompt = json.dumps(example.prompt, sort_keys=True)
            others = sorted(others, key=lambda number: _draw(prompt, self.items.ids[number]))[: self.num_candidates]
        return sorted([next_item.item, *others])


def _draw(prompt: str, item: str) -> bytes:
    return hashlib.blake2b(f"{prompt}\n{item}".encode(), digest_size=16).digest()


class _Scores(NamedTuple):
    """`log_prob[c]` of the name of each candidate with its end, nats; `num_alike`: candidates, beside the first of
    each, whose name is the same tokens; whether the prompt, and whether a name, was cut to fit."""

    log_prob: Float[Tensor, " c"]
    num_alike: int
    is_prompt_cut: bool
    is_name_cut: bool


@torch.no_grad()
def measure_names(policy: Policy, ranking: NameRanking, cutoffs: Sequence[int], device: torch.device) -> Measured:
    """Each prompt is by itself: `ndcg@k`, `hit@k`, `mrr` of the item that came next, and the same of the ranking of the
    same items by popularity (``popularity/...``).

    An item is scored by the log-probability of its name and the end behind it, nats. Before the right item stands what
    has the same score, and so each name that is the same tokens.

    Args:
        policy: in the mode that it is to be measured in.
        device: of the policy.

    Raises:
        UserError: the policy gives a name no log-probability, as after a training that diverged.
    """
    items, popularity = ranking.items, torch.tensor(ranking.items.popularity, dtype=torch.float64)
    ranks, popularity_ranks, rows = [], [], []
    scored: list[_Scores] = []
    for example, next_item in ranking.examples:
        candidates = ranking.candidates(example, next_item)
        scores = _score(policy, example, [items.responses[item] for item in candidates], ranking.max_length, device)
        if bool(scores.log_prob.isnan().any()):
            raise UserError(f"{example.source}: the policy gives the name of an item no log-probability but nan")
        target = candidates.index(next_item.item)
        ranks.append(_rank(scores.log_prob, target))
        popularity_ranks.append(_rank(popularity[candidates], target))
        scored.append(scores)
        best = sorted(range(len(candidates)), key=lambda place: (-scores.log_prob[place].item(), place))[:NUM_TOP]
        rows.append(
            {
                "source": example.source,
                "item": items.ids[next_item.item],
                "name": items.responses[next_item.item].strip(),
                "rank": ranks[-1],
                "popularity_rank": popularity_ranks[-1],
                "num_ranked": len(candidates),
                "log_prob": scores.log_prob[target].item(),
                "top": [items.responses[candidates[place]].strip() for place in best],
            }
        )
    figures = ranking_figures(torch.tensor(ranks), torch.tensor(popularity_ranks), cutoffs)
    return Measured(figures, rows, _details(ranking, cutoffs, scored))


def _details(ranking: NameRanking, cutoffs: Sequence[int], scored: Sequence[_Scores]) -> dict[str, Any]:
    return {
        "num_items": len(ranking.items.ids),
        "cutoffs": list(cutoffs),
        "num_candidates": ranking.num_candidates,
        "candidates": ALL if ranking.num_candidates is None else DRAWN,
        "num_names_scored": ranking.num_rows,
        "num_names_alike": sum(scores.num_alike for scores in scored),
        "num_prompts_cut": sum(scores.is_prompt_cut for scores in scored),
        "num_prompts_with_a_name_cut": sum(scores.is_name_cut for scores in scored),
    }


def _rank(scores: Float[Tensor, " c"], target: int) -> int:
    nothing = torch.zeros(1, len(scores), dtype=torch.bool)
    return int(ranks_of(scores[None], torch.tensor([target]), nothing))


def _score(
    policy: Policy, example: Example, responses: Sequence[str], max_length: int, device: torch.device
) -> _Scores:
    """All names behind one prompt, which is cut once for all of them; names that are the same tokens are one."""
    (encoded,) = policy.encode(
        [Example(example.prompt, tuple(responses), source=example.source, images=example.images)]
    )
    fitted = fit_length(encoded, max_length, "truncate")
    shown = fitted.encoded or encoded
    distinct = list(dict.fromkeys(shown.responses))
    parts = []
    for part in _parts(replace(shown, responses=tuple(distinct))):
        inputs = {name: tensor.to(device) for name, tensor in policy.collate([part]).items()}
        parts.append(policy.log_prob(inputs).sum().double().cpu())
    place = {response: number for number, response in enumerate(distinct)}
    log_prob = torch.cat(parts)[[place[response] for response in shown.responses]]
    num_alike = len(shown.responses) - len(distinct)
    return _Scores(log_prob, num_alike, "prompt_cut" in fitted.reasons, "response_cut" in fitted.reasons)


def _parts(encoded: Encoded) -> Iterator[Encoded]:
    """The same prompt with some of its responses at a time."""
    longest = len(encoded.prompt) + max(map(len, encoded.responses))
    num = max(1, BATCH_TOKENS // longest)
    for start in range(0, len(encoded.responses), num):
        yield replace(encoded, responses=encoded.responses[start : start + num])
