"""What an objective is given: forward passes of a micro-batch, and the join of several into one batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from dpo_lab.model.policy import Policy
from dpo_lab.needs import Objective
from dpo_lab.reductions import log_collision, sequential_kl
from dpo_lab.reference.reference import Reference
from dpo_lab.seeds import row_generators
from dpo_lab.types import LogProbs, LossOutput, PolicyStats, PreferenceBatch

FROM_DISTRIBUTIONS = frozenset({"policy_stats", "sequential_kl"})
"""Ingredients that are reduced from whole distributions, which cost one number a choice and not one a decision."""


class Measured(NamedTuple):
    """What policy and reference say of the rows of one batch; None where the objective does not ask."""

    policy: LogProbs
    reference: LogProbs | None = None
    policy_stats: PolicyStats | None = None
    sequential_kl: Tensor | None = None

    def attached(self) -> list[Tensor]:
        """The tensors through which a loss reaches the policy's weights."""
        stats = None if self.policy_stats is None else self.policy_stats.log_collision
        return [tensor for tensor in (self.policy.token, stats, self.sequential_kl) if tensor is not None]

    def as_leaves(self) -> "Measured":
        """The same numbers, cut off from the weights, each tensor with a gradient of its own."""
        stats, divergence = self.policy_stats, self.sequential_kl
        return self._replace(
            policy=self.policy._replace(token=self.policy.token.detach().requires_grad_()),
            policy_stats=None if stats is None else PolicyStats(stats.log_collision.detach().requires_grad_()),
            sequential_kl=None if divergence is None else divergence.detach().requires_grad_(),
        )


class Scored(NamedTuple):
    """A batch, what policy and reference say of it, and what the terms of the objective make of that."""

    batch: PreferenceBatch
    measured: Measured
    outputs: dict[str, LossOutput]


@final
class Scorer:
    """Runs policy and reference, and puts together what `objective` asks for. `seed` is that of random subsets."""

    def __init__(self, policy: Policy, reference: Reference | None, objective: Objective, seed: int):
        self._policy = policy
        self._reference = reference
        self._needs = objective.needs
        self._seed = seed

    def measure(self, batch: PreferenceBatch) -> Measured:
        """The forward passes of `batch`; with gradient to the policy unless that is switched off outside."""
        inputs = batch.inputs
        if not self._needs & FROM_DISTRIBUTIONS:
            reference = None if self._reference is None else self._reference.log_prob(inputs, batch.key)
            return Measured(self._policy.log_prob(inputs), reference)
        policy, choices = self._policy.log_prob_and_choices(inputs)
        stats = PolicyStats(log_collision(choices)) if "policy_stats" in self._needs else None
        if self._reference is None or "sequential_kl" not in self._needs:
            reference = None if self._reference is None else self._reference.log_prob(inputs, batch.key)
            return Measured(policy, reference, stats)
        reference, others = self._reference.log_prob_and_choices(inputs)
        return Measured(policy, reference, stats, sequential_kl(others, choices))

    def blank(self, batch: PreferenceBatch) -> Measured:
        """Zeros of the right shapes, known without a forward pass: enough for weights, which depend on masks alone."""
        mask = self._policy.decision_mask(batch.inputs)
        log_probs = LogProbs(torch.zeros(mask.shape, device=mask.device), mask)
        return Measured(log_probs, log_probs, PolicyStats(log_probs.token), log_probs.sum())

    def ingredients(self, batch: PreferenceBatch, measured: Measured, step: int) -> dict[str, Any]:
        """Every ingredient by its name; random ones are a pure function of seed, `step` and the key of each row."""
        dtype = measured.policy.token.dtype
        drawn = "generator" in self._needs
        return {
            **measured._asdict(),
            "pairs": batch.pairs,
            "chosen": batch.chosen,
            "ranking": batch.ranking,
            "labels": batch.labels,
            "scores": batch.scores,
            "win_probability": None if batch.win_probability is None else batch.win_probability.to(dtype),
            "drift": batch.drift,
            "generator": row_generators(self._seed, step, batch.key.tolist()) if drawn else None,
        }


def join_measured(parts: Sequence[Measured]) -> Measured:
    """One `Measured` over the rows of all `parts`, in order."""
    width = max(part.policy.mask.shape[1] for part in parts)
    references = [part.reference for part in parts if part.reference is not None]
    stats = [part.policy_stats.log_collision for part in parts if part.policy_stats is not None]
    divergences = [part.sequential_kl for part in parts if part.sequential_kl is not None]
    return Measured(
        _join_log_probs([part.policy for part in parts], width),
        _join_log_probs(references, width) if references else None,
        PolicyStats(_join_wide(stats, width)) if stats else None,
        torch.cat(divergences) if divergences else None,
    )


def join_batches(parts: Sequence[PreferenceBatch]) -> PreferenceBatch:
    """One batch over the rows of all `parts`, in order, without `inputs`: index views point at the same responses."""
    rows = _offsets([len(part.group) for part in parts])
    groups = _offsets([int(part.group.max()) + 1 if len(part.group) else 0 for part in parts])
    return PreferenceBatch(
        inputs={},
        group=torch.cat([part.group + first for part, first in zip(parts, groups, strict=True)]),
        key=torch.cat([part.key for part in parts]),
        pairs=torch.cat([part.pairs + first for part, first in zip(parts, rows, strict=True)]),
        chosen=torch.cat([part.chosen + first for part, first in zip(parts, rows, strict=True)]),
        ranking=_join_rankings([part.ranking for part in parts], rows),
        labels=_join_optional([part.labels for part in parts]),
        scores=_join_optional([part.scores for part in parts]),
        win_probability=_join_optional([part.win_probability for part in parts]),
        drift=_join_optional(
            [None if part.drift is None else part.drift + first for part, first in zip(parts, rows, strict=True)]
        ),
        prompt_key=_join_optional([part.prompt_key for part in parts]),
    )


def _offsets(sizes: list[int]) -> list[int]:
    return [sum(sizes[:index]) for index in range(len(sizes))]


def _join_log_probs(parts: list[LogProbs], width: int) -> LogProbs:
    return LogProbs(_join_wide([part.token for part in parts], width), _join_wide([part.mask for part in parts], width))


def _join_wide(parts: list[Tensor], width: int) -> Tensor:
    return torch.cat([pad(part, (0, width - part.shape[1])) for part in parts])


def _join_rankings(parts: list[Tensor | None], rows: list[int]) -> Tensor | None:
    known = [(part, first) for part, first in zip(parts, rows, strict=True) if part is not None]
    if not known:
        return None
    width = max(part.shape[1] for part, _ in known)
    moved = [torch.where(part < 0, part, part + first) for part, first in known]
    return torch.cat([pad(part, (0, width - part.shape[1]), value=-1) for part in moved])


def _join_optional(parts: list[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None
