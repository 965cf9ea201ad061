"""One small batch whose responses have unequal lengths, and the reduction that a step applies to a loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpo_lab.needs import Objective
from dpo_lab.types import LogProbs, LossOutput, PolicyStats, State

Rows = Sequence[Sequence[float]]

# Log-probs in nats. Row 0 has 3 decisions, row 1 has 1, row 2 has 2, row 3 has 4.
POLICY: Rows = ((-1.0, -0.5, -2.0), (-0.7,), (-3.0, -0.1), (-0.2, -0.4, -1.1, -2.3))
REFERENCE: Rows = ((-1.2, -0.4, -2.5), (-0.6,), (-2.0, -0.3), (-0.3, -0.8, -1.0, -2.0))
# Policy minus reference, summed: 0.2 - 0.1 + 0.5; -0.1; -1.0 + 0.2; 0.1 + 0.4 - 0.1 - 0.3.
RATIOS = (0.6, -0.1, -0.8, 0.1)
LENGTHS = (3, 1, 2, 4)
PAIRS = ((0, 1), (3, 2))
# Chosen minus rejected: 0.6 + 0.1; 0.1 + 0.8.
MARGINS = (0.7, 0.9)


def log_probs(rows: Rows, dtype: torch.dtype = torch.float64) -> LogProbs:
    """Rows of unequal length as a leaf tensor that takes a gradient."""
    width = max(len(row) for row in rows)
    token = torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=dtype)
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return LogProbs(token.requires_grad_(), mask)


@dataclass(frozen=True)
class Batch:
    """What an objective is given. `chosen` are the chosen rows of the pairs; what is not said is read off the pairs.

    Without `labels` a row is desirable where it is chosen and undesirable where it is rejected; without `ranking`
    each pair is a list of two; without `drift` the rejected rows stand in for borrowed ones.
    """

    policy: LogProbs
    reference: LogProbs
    pairs: Tensor
    ranking: Tensor | None = None
    labels: Tensor | None = None
    scores: Tensor | None = None
    win_probability: Tensor | None = None
    drift: Tensor | None = None
    log_collision: Tensor | None = None
    sequential_kl: Tensor | None = None
    seeds: tuple[int, ...] | None = None

    def ingredients(self) -> dict[str, object]:
        num_rows, dtype = len(self.policy.token), self.policy.token.dtype
        seeds = range(num_rows) if self.seeds is None else self.seeds
        collision = self._or(self.log_collision, torch.full_like(self.policy.token, -0.5))
        return {
            "policy": self.policy,
            "reference": self.reference,
            "pairs": self.pairs,
            "chosen": self.pairs[:, 0],
            "ranking": self._or(self.ranking, self.pairs),
            "labels": self._or(self.labels, self._labels()),
            "scores": self._or(self.scores, torch.linspace(1.0, -0.5, num_rows, dtype=dtype)),
            "win_probability": self._or(self.win_probability, torch.linspace(0.9, 0.6, len(self.pairs), dtype=dtype)),
            "drift": self._or(self.drift, self.pairs[:, 1]),
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "policy_stats": PolicyStats(torch.where(self.policy.mask, collision, 0.0)),
            "sequential_kl": self._or(self.sequential_kl, torch.linspace(0.1, 0.7, num_rows, dtype=dtype)),
        }

    @staticmethod
    def _or(given: Tensor | None, otherwise: Tensor) -> Tensor:
        return otherwise if given is None else given

    def _labels(self) -> Tensor:
        labels = torch.full((len(self.policy.token),), -1)
        labels[self.pairs[:, 1]] = 0
        labels[self.pairs[:, 0]] = 1
        return labels

    def with_pairs(self, pairs: Tensor) -> "Batch":
        return replace(self, pairs=pairs)

    def swapped(self) -> "Batch":
        """Every judgement the other way round."""
        return replace(
            self,
            pairs=self.pairs.flip(1),
            ranking=None if self.ranking is None else self.ranking.flip(1),
            labels=None if self.labels is None else torch.where(self.labels < 0, self.labels, 1 - self.labels),
            scores=None if self.scores is None else -self.scores,
        )

    def one_by_one(self) -> list["Batch"]:
        """Each pair as a batch of its own, over the same rows."""
        return [self.with_pairs(pair[None]) for pair in self.pairs]

    def by_prompt(self) -> list["Batch"]:
        """The lists as batches of their own, over the same rows."""
        assert self.ranking is not None and self.labels is not None and self.win_probability is not None
        parts = []
        for line in self.ranking:
            is_pair = torch.isin(self.pairs[:, 0], line)
            is_row = torch.isin(torch.arange(len(self.labels)), line)
            parts.append(
                replace(
                    self,
                    pairs=self.pairs[is_pair],
                    ranking=line[None],
                    labels=torch.where(is_row, self.labels, -1),
                    win_probability=self.win_probability[is_pair],
                )
            )
        return parts

    def permuted(self, order: Tensor) -> "Batch":
        """The same rows in another order: row i of the new batch is row ``order[i]`` of this one."""
        place = torch.argsort(order)
        given = self.ingredients()
        rows = {name: given[name] for name in ("labels", "scores", "sequential_kl")}
        views = {name: given[name] for name in ("pairs", "ranking", "drift")}
        stats = given["policy_stats"]
        assert isinstance(stats, PolicyStats)
        seeds = range(len(order)) if self.seeds is None else self.seeds
        return replace(
            self,
            policy=LogProbs(self.policy.token[order], self.policy.mask[order]),
            reference=LogProbs(self.reference.token[order], self.reference.mask[order]),
            **{name: values[order] for name, values in rows.items() if isinstance(values, Tensor)},
            **{name: place[values] for name, values in views.items() if isinstance(values, Tensor)},
            log_collision=stats.log_collision[order],
            seeds=tuple(seeds[index] for index in order.tolist()),
        )


def make_batch(policy: Rows = POLICY, reference: Rows = REFERENCE, dtype: torch.dtype = torch.float64) -> Batch:
    return Batch(log_probs(policy, dtype), log_probs(reference, dtype), torch.tensor(PAIRS))


def list_batch(dtype: torch.dtype = torch.float64) -> Batch:
    """Two prompts with three responses each, of unequal lengths and scores, and a borrowed response for either."""
    return Batch(
        policy=log_probs((*POLICY, (-0.9, -1.4), (-2.2, -0.3, -0.6), (-1.7,), (-0.8, -2.6)), dtype),
        reference=log_probs((*REFERENCE, (-1.1, -1.6), (-1.9, -0.2, -0.9), (-1.3,), (-0.9, -2.2)), dtype),
        pairs=torch.tensor([[0, 1], [0, 2], [1, 2], [4, 3], [4, 5], [3, 5]]),
        ranking=torch.tensor([[0, 1, 2], [4, 3, 5]]),
        labels=torch.tensor([1, 0, 0, 1, 1, 0, -1, -1]),
        scores=torch.tensor([2.0, 0.5, -1.0, 0.7, 1.5, -0.3, float("nan"), float("nan")], dtype=dtype),
        win_probability=torch.tensor([0.82, 0.95, 0.75, 0.69, 0.86, 0.73], dtype=dtype),
        drift=torch.tensor([6, 6, 6, 7, 7, 7]),
        log_collision=-0.3 - 0.1 * torch.arange(32, dtype=dtype).reshape(8, 4),
        sequential_kl=torch.tensor([0.4, 0.1, 0.3, 0.6, 0.2, 0.5, 0.0, 0.0], dtype=dtype),
    )


def margin_batch(margins: Sequence[float], dtype: torch.dtype = torch.float64) -> Batch:
    """One pair of one-token responses for each of `margins`, nats; the rejected response has log-ratio 0."""
    policy = [row for margin in margins for row in ([margin], [0.0])]
    reference = [[0.0]] * len(policy)
    pairs = torch.arange(len(policy)).reshape(-1, 2)
    return Batch(log_probs(policy, dtype), log_probs(reference, dtype), pairs)


def reduce(output: LossOutput) -> Tensor:
    return (output.loss * output.weight).sum() / output.weight.sum()


def total(objective: Objective, batch: Batch, states: dict[str, State] | None = None) -> Tensor:
    """The loss of a step: what the framework makes of an objective."""
    outputs = objective(batch.ingredients(), states)
    return torch.stack([term.weight * reduce(outputs[term.name]) for term in objective.terms]).sum()


def states_after(objective: Objective, batch: Batch) -> dict[str, State]:
    """What the terms remember of a first step on `batch`."""
    outputs = objective(batch.ingredients())
    return {name: output.state for name, output in outputs.items() if output.state is not None}


def gradient(loss: Tensor, log_prob: LogProbs) -> Tensor:
    """Of `loss` with respect to the log-probability of every decision."""
    (result,) = torch.autograd.grad(loss, log_prob.token, retain_graph=True)
    return result


def by_decision(per_row: Sequence[float]) -> Tensor:
    """A gradient that is the same at every decision of a row, and 0 beyond its end."""
    width = max(LENGTHS)
    rows = zip(per_row, LENGTHS, strict=True)
    return torch.tensor([[value] * num + [0.0] * (width - num) for value, num in rows], dtype=torch.float64)
