"""The only file that knows the names of curves.

A curve is a sum and a count, kept apart until it is read: an average of averages weighs a short last batch, or a
rank with fewer rows, as much as the others.
"""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import Objective
from dpo_lab.ranks import gather_over_ranks
from dpo_lab.types import LogProbs, LossOutput, PreferenceBatch

SMALLEST = 1e-300
TIE_NATS = 1e-4
"""Log-ratios of whole responses that are no further apart are the same: two ways of computing may differ by that."""


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

    def over_ranks(self) -> "Tally":
        """Everything that all ranks have counted."""
        plain = {name: (float(self._sums[name]), float(self._counts[name])) for name in self._sums}
        ranks = gather_over_ranks(plain)
        if len(ranks) == 1:
            return self
        total = Tally()
        for counted in ranks:
            part = Tally()
            part._sums = {name: torch.tensor(both[0], dtype=torch.float64) for name, both in counted.items()}
            part._counts = {name: torch.tensor(both[1], dtype=torch.float64) for name, both in counted.items()}
            total.merge(part)
        return total

    def count(self, name: str) -> float:
        """How much weight the curve `name` has, 0 where nothing was added."""
        return float(self._counts[name]) if name in self._counts else 0.0

    def means(self) -> dict[str, float]:
        """Sum over count of every curve, in the order in which they were first added; one transfer from the device.

        A curve of which nothing was counted (no response of that kind) is left out.
        """
        if not self._sums:
            return {}
        sums, counts = torch.stack([*self._sums.values(), *self._counts.values()]).reshape(2, -1).tolist()
        return {name: total / count for name, total, count in zip(self._sums, sums, counts, strict=True) if count}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that it would need to go on exactly from here."""
        return {"sums": self._sums, "counts": self._counts}

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> None:
        """Go on from what `state` gave."""
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts = {name: count.to(device) for name, count in state["counts"].items()}


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
    across losses and betas; a tie (`TIE_NATS`) counts one half in ``rewards/accuracies``.
    """
    tally = Tally()
    for term in objective.terms:
        output = outputs[term.name]
        tally.add(term_curve(term.name), output.loss, output.weight)
        for name, values in output.extra.items():
            tally.add(name if len(objective.terms) == 1 else f"{name}/{term.name}", values)
    reward = first_reward(objective, outputs)
    chosen, rejected = judged_rows(batch)
    ratio = None if reference is None else log_ratio(policy, reference)
    curves_of = {"rewards": reward, "logps": policy.sum(), "log_ratios": ratio, "lengths": policy.length()}
    for name, values in curves_of.items():
        if values is None:
            continue
        tally.add(f"{name}/chosen", values[chosen])
        if rejected is not None:
            tally.add(f"{name}/rejected", values[rejected])
        if name == "rewards" and len(batch.pairs):
            margins = values[batch.pairs[:, 0]] - values[batch.pairs[:, 1]]
            tally.add("rewards/margins", margins)
            tied = margins == 0
            if ratio is not None:
                tied |= (ratio[batch.pairs[:, 0]] - ratio[batch.pairs[:, 1]]).abs() <= TIE_NATS
            tally.add("rewards/accuracies", torch.where(tied, 0.5, (margins > 0).double()))
    return tally


def tally_shares(shares: dict[str, Tensor], attached: Sequence[Tensor]) -> Tally:
    """Of an objective of several terms: how much of the gradient each term gives, as ``gradient_share/<name>``.

    The size of a gradient is the sum of its magnitudes over all that the policy is asked (`attached`: the
    log-probability of every decision, and so on), which adds up over micro-batches. Shares are in [0, 1] and add up
    to 1 where there is any gradient.
    """
    tally = Tally()
    if len(shares) < 2 or not any(tensor.requires_grad for tensor in attached):
        return tally
    sizes = {}
    for name, share in shares.items():
        found = torch.autograd.grad(share, attached, retain_graph=True, materialize_grads=True)
        sizes[name] = torch.stack([gradient.abs().sum().double() for gradient in found]).sum()
    total = torch.stack(list(sizes.values())).sum().clamp(min=SMALLEST)
    for name, size in sizes.items():
        tally.add(f"gradient_share/{name}", (size / total)[None], total[None])
    return tally


def judged_rows(batch: PreferenceBatch) -> tuple[Tensor, Tensor | None]:
    """Rows that were judged well, and badly; None for a batch to imitate, in which nothing was judged badly."""
    if len(batch.pairs):
        return batch.pairs[:, 0], batch.pairs[:, 1]
    if batch.labels is not None:
        return (batch.labels == 1).nonzero()[:, 0], (batch.labels == 0).nonzero()[:, 0]
    return batch.chosen, None


def first_reward(objective: Objective, outputs: dict[str, LossOutput]) -> Tensor | None:
    """The reward of the first term that defines one."""
    rewards = (outputs[term.name].reward for term in objective.terms)
    return next((reward for reward in rewards if reward is not None), None)


def curves(objective: Objective, tally: Tally, *, prefix: str) -> dict[str, float]:
    """Names and values of a record: the objective's loss first, then every curve, each under ``prefix/``.

    With a single term its own loss is the loss and is not repeated. With several, ``loss_share/<name>`` is the term's
    part of the sum of their magnitudes. The loss of a term that had no item is 0. Where single
    responses were judged, the margin is that of the means.
    """
    means = tally.means()
    losses = {term.name: means.pop(term_curve(term.name), 0.0) for term in objective.terms}
    row = {f"{prefix}/loss": sum(term.weight * losses[term.name] for term in objective.terms)}
    if len(losses) > 1:
        row |= {f"{prefix}/{term_curve(name)}": value for name, value in losses.items()}
        sizes = {term.name: abs(term.weight * losses[term.name]) for term in objective.terms}
        total = max(sum(sizes.values()), SMALLEST)
        row |= {f"{prefix}/loss_share/{name}": size / total for name, size in sizes.items()}
    if "rewards/margins" not in means and {"rewards/chosen", "rewards/rejected"} <= means.keys():
        means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
    return row | {f"{prefix}/{name}": value for name, value in means.items()}


def predictions(
    objective: Objective,
    outputs: dict[str, LossOutput],
    batch: PreferenceBatch,
    policy: LogProbs,
    reference: LogProbs | None,
) -> dict[str, Tensor]:
    """Numbers of each response for the record; `role` is 1 judged well, 0 badly, -1 neither."""
    role = torch.full((len(batch.group),), -1, dtype=torch.long, device=batch.group.device)
    chosen, rejected = judged_rows(batch)
    if rejected is not None:
        role[rejected] = 0
    role[chosen] = 1
    rows = {
        "key": batch.key,
        "group": batch.group,
        "role": role,
        "policy_log_prob": policy.sum(),
        "length": policy.length(),
    }
    if reference is not None:
        rows["reference_log_prob"] = reference.sum()
    reward = first_reward(objective, outputs)
    if reward is not None:
        rows["reward"] = reward
    return rows
