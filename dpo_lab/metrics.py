"""The only file that knows the names of curves.

A curve is a sum and a count, kept apart until it is read: an average of averages weighs a short last batch, or a
rank with fewer rows, as much as the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from dpo_lab.log_ratio import log_ratio
from dpo_lab.needs import Objective
from dpo_lab.ranks import gather_over_ranks, num_ranks
from dpo_lab.types import LogProbs, LossOutput, PreferenceBatch

SMALLEST = 1e-300
TIE_NATS = 1e-4
"""Log-ratios of whole responses that are no further apart are the same: two ways of computing may differ by that."""


class _Addition(NamedTuple):
    """Values of one curve after the other, as many of each; a weight for each value of a single curve, else 1."""

    names: tuple[str, ...]
    values: Tensor
    weight: Tensor | None = None


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
        # What was added waits and is summed at once: a handful of operations, not a handful a curve.
        self._waiting: list[_Addition] = []
        self._names: list[str] = []
        self._totals = torch.zeros(2, 0, dtype=torch.float64)

    def add(self, name: str, values: Tensor, weight: Tensor | None = None) -> None:
        """Add each of `values[n]` with its `weight` (1 unless given) to the curve `name`."""
        self._waiting.append(_Addition((name,), values.detach(), None if weight is None else weight.detach()))

    def add_rows(self, names: Sequence[str], values: Tensor) -> None:
        """Add the row of `values[names, n]` that stands at its place to each curve."""
        self._waiting.append(_Addition(tuple(names), values.detach().reshape(-1)))

    def merge(self, other: "Tally") -> None:
        """Add everything that `other` has counted."""
        if not (self._waiting or self._names or other._names):
            self._waiting = list(other._waiting)
            return
        names, totals = other._settled()
        if names:
            self._add_totals(names, totals)

    def over_ranks(self) -> "Tally":
        """Everything that all ranks have counted."""
        if num_ranks() == 1:
            return self
        names, totals = self._settled()
        total = Tally()
        for counted, sums_and_counts in gather_over_ranks((names, totals.cpu())):
            total._add_totals(counted, sums_and_counts)
        return total

    def count(self, name: str) -> float:
        """How much weight the curve `name` has, 0 where nothing was added."""
        names, totals = self._settled()
        return float(totals[1, names.index(name)]) if name in names else 0.0

    def means(self) -> dict[str, float]:
        """Sum over count of every curve, in the order in which they were first added; one transfer from the device.

        A curve of which nothing was counted (no response of that kind) is left out.
        """
        names, totals = self._settled()
        sums, counts = totals.tolist()
        return {name: total / count for name, total, count in zip(names, sums, counts, strict=True) if count}

    def state(self) -> dict[str, Any]:
        """All that it would need to go on exactly from here."""
        names, totals = self._settled()
        return {"names": names, "totals": totals}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave."""
        self._waiting, self._names, self._totals = [], list(state["names"]), state["totals"].to(device)

    def _settled(self) -> tuple[list[str], Tensor]:
        """Names, and ``Float64[2, names]``: sum and count of each."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._add_totals([name for addition in waiting for name in addition.names], _totals_of(waiting))
        return self._names, self._totals

    def _add_totals(self, names: list[str], totals: Tensor) -> None:
        own, before = (self._names, self._totals) if not self._waiting else self._settled()
        if not own and len(set(names)) == len(names):
            self._names, self._totals = list(names), totals
        elif own == names:
            self._totals = before + totals
        else:
            self._names = list(dict.fromkeys([*own, *names]))
            at = torch.tensor([self._names.index(name) for name in (*own, *names)], device=totals.device)
            both = torch.cat([before.to(totals.device), totals], dim=1)
            self._totals = both.new_zeros(2, len(self._names)).index_add(1, at, both)


def _totals_of(additions: Sequence[_Addition]) -> Tensor:
    """Sum and count of each curve of each addition, ``Float64[2, curves]``."""
    sizes = [len(one.values) // len(one.names) for one in additions for _ in one.names]
    weights = [one.weight for one in additions if one.weight is not None]
    values = [one.values if one.weight is None else one.values.double() * one.weight for one in additions]
    flat = torch.cat([*values, *weights]).double()
    lengths = torch.tensor([*sizes, *map(len, weights)], device=flat.device)
    sums = torch.segment_reduce(flat, "sum", lengths=lengths)
    counts = torch.tensor(sizes, dtype=torch.float64, device=flat.device)
    at, number = 0, len(sizes)
    for one in additions:
        if one.weight is not None:
            counts[at], number = sums[number], number + 1
        at += len(one.names)
    return torch.stack([sums[: len(sizes)], counts])


def term_curve(name: str) -> str:
    """Name of the curve of one term's own, unweighted loss."""
    return f"loss/{name}"


@torch.no_grad()
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
    ratio = None if reference is None else log_ratio(policy, reference)
    known = {"rewards": reward, "logps": policy.sum(), "log_ratios": ratio, "lengths": policy.length()}
    names = [name for name, values in known.items() if values is not None]
    table = torch.stack([values for values in known.values() if values is not None])
    better, worse = judged_rows(batch)
    chosen = table[:, better]
    tally.add_rows([f"{name}/chosen" for name in names], chosen)
    if worse is None:
        return tally
    rejected = table[:, worse]
    tally.add_rows([f"{name}/rejected" for name in names], rejected)
    if reward is not None and len(batch.pairs):  # judged one against the other, so side by side
        differences = chosen - rejected
        margins = differences[names.index("rewards")]
        tied = margins == 0
        if ratio is not None:
            tied |= differences[names.index("log_ratios")].abs() <= TIE_NATS
        tally.add("rewards/margins", margins)
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

    `objective` is the sum of one update, without ramps (`Objective.at`). With a single term its own loss is the loss
    and is not repeated. With several, ``loss_share/<name>`` is the term's part of the sum of their magnitudes. The loss
    of a term that had no item is 0. Where single responses were judged, the margin is that of the means.
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


@torch.no_grad()
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
    if batch.prompt_key is not None:
        rows["prompt"] = batch.prompt_key
    if reference is not None:
        rows["reference_log_prob"] = reference.sum()
    reward = first_reward(objective, outputs)
    if reward is not None:
        rows["reward"] = reward.detach()
    return rows
