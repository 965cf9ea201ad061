"""The only file that knows the names of curves.

A curve is a sum and a count, kept apart until it is read: an average of averages weighs a short last batch, or a
rank with fewer rows, as much as the others.
"""

from typing import final

import torch
from torch import Tensor

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import Objective
from dpo_lab.types import LogProbs, LossOutput, PreferenceBatch


@final
class Tally:
    """Sums and counts by name, in float64.

    >>> tally = Tally()
    >>> tally.add("accuracy", torch.tensor([1.0, 0.0]))
    >>> tally.add("accuracy", torch.tensor([1.0]))
    >>> round(tally.means()["accuracy"], 4)
    0.6667
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor, weight: Tensor | None = None) -> None:
        """Add each of `values` with its `weight` (1 unless given) to the curve `name`."""
        values = values.detach().double()
        weight = torch.ones_like(values) if weight is None else weight.detach().double()
        total, count = (values * weight).sum(), weight.sum()
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._counts[name] = self._counts[name] + count if name in self._counts else count

    def merge(self, other: "Tally") -> None:
        """Add everything that `other` has counted."""
        for name, total in other._sums.items():
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            count = other._counts[name]
            self._counts[name] = self._counts[name] + count if name in self._counts else count

    def count(self, name: str) -> float:
        """How much weight the curve `name` has, 0 where nothing was added."""
        return float(self._counts[name]) if name in self._counts else 0.0

    def means(self) -> dict[str, float]:
        """Sum over count of every curve, in the order in which they were first added; one transfer from the device."""
        if not self._sums:
            return {}
        means = torch.stack(list(self._sums.values())) / torch.stack(list(self._counts.values()))
        return dict(zip(self._sums, means.tolist(), strict=True))


def term_curve(name: str) -> str:
    """Name of the curve of one term's own, unweighted loss."""
    return f"loss/{name}"


def tally_batch(
    objective: Objective,
    outputs: dict[str, LossOutput],
    batch: PreferenceBatch,
    policy: LogProbs,
    reference: LogProbs | None,
) -> Tally:
    """Everything that is counted of one micro-batch, from numbers that training computed anyway.

    ``rewards/*`` are as the loss defines them, beta included; ``log_ratios/*`` are nats without beta, comparable
    across losses and betas; a tie counts one half in ``rewards/accuracies``.
    """
    tally = Tally()
    for term in objective.terms:
        output = outputs[term.name]
        tally.add(term_curve(term.name), output.loss, output.weight)
        for name, values in output.extra.items():
            tally.add(name, values)
    reward = first_reward(objective, outputs)
    if reward is not None and len(batch.pairs):
        chosen, rejected = reward[batch.pairs[:, 0]], reward[batch.pairs[:, 1]]
        tally.add("rewards/chosen", chosen)
        tally.add("rewards/rejected", rejected)
        tally.add("rewards/margins", chosen - rejected)
        tally.add("rewards/accuracies", (chosen > rejected).double() + 0.5 * (chosen == rejected).double())
    ratio = None if reference is None else log_ratio(policy, reference)
    for name, values in (("logps", policy.sum()), ("log_ratios", ratio), ("lengths", policy.length())):
        if values is None:
            continue
        if len(batch.pairs):
            tally.add(f"{name}/chosen", values[batch.pairs[:, 0]])
            tally.add(f"{name}/rejected", values[batch.pairs[:, 1]])
        else:
            tally.add(f"{name}/chosen", values[batch.chosen])
    return tally


def first_reward(objective: Objective, outputs: dict[str, LossOutput]) -> Tensor | None:
    """The reward of the first term that defines one."""
    rewards = (outputs[term.name].reward for term in objective.terms)
    return next((reward for reward in rewards if reward is not None), None)


def curves(objective: Objective, tally: Tally, *, prefix: str) -> dict[str, float]:
    """Names and values of a record: the objective's loss first, then every curve, each under ``prefix/``.

    With a single term its own loss is the loss and is not repeated.
    """
    means = tally.means()
    losses = {term.name: means.pop(term_curve(term.name)) for term in objective.terms}
    row = {f"{prefix}/loss": sum(term.weight * losses[term.name] for term in objective.terms)}
    if len(losses) > 1:
        row |= {f"{prefix}/{term_curve(name)}": value for name, value in losses.items()}
    return row | {f"{prefix}/{name}": value for name, value in means.items()}
