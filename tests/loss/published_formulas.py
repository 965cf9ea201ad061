"""What other libraries compute, written again from their definitions: plain sums over the tokens of each response."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpo_lab.types import LogProbs, PolicyStats
from tests.loss.batch import Batch


@dataclass(frozen=True)
class Pair:
    """Log-probs of the tokens of a chosen and a rejected response, and log sum_v pi(v)^2 beside each."""

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    collision_chosen: Tensor
    collision_rejected: Tensor

    @property
    def a(self) -> Tensor:
        return self.chosen.sum() - self.ref_chosen.sum()

    @property
    def b(self) -> Tensor:
        return self.rejected.sum() - self.ref_rejected.sum()

    @property
    def h(self) -> Tensor:
        return self.a - self.b

    @property
    def h_mean(self) -> Tensor:
        return self.a / len(self.chosen) - self.b / len(self.rejected)

    @property
    def d(self) -> Tensor:
        """Chosen minus rejected log-prob, without a reference."""
        return self.chosen.sum() - self.rejected.sum()

    @property
    def d_mean(self) -> Tensor:
        """Chosen minus rejected log-prob per token, without a reference."""
        return self.chosen.mean() - self.rejected.mean()

    @property
    def confidence(self) -> Tensor:
        """exp of the mean log-prob less that of a sampled token, chosen times rejected; a constant."""
        chosen, rejected = self.chosen - self.collision_chosen, self.rejected - self.collision_rejected
        return (chosen.mean().exp() * rejected.mean().exp()).detach()

    def weighed(self, alpha: float, reference_alpha: float) -> Tensor:
        """Margin in which the tokens past the length of the shorter response count alpha each."""
        shared = min(len(self.chosen), len(self.rejected))

        def worth(tokens: Tensor, tail: float) -> Tensor:
            return tokens[:shared].sum() + tail * tokens[shared:].sum()

        theirs = worth(self.ref_chosen, reference_alpha) - worth(self.ref_rejected, reference_alpha)
        return worth(self.chosen, alpha) - worth(self.rejected, alpha) - theirs


@dataclass(frozen=True)
class Facts:
    """Pairs; log-ratios of the responses that were judged desirable or not, and of the borrowed ones."""

    pairs: list[Pair]
    desirable: Tensor
    undesirable: Tensor
    borrowed: Tensor

    def mean(self, loss: Callable[[Pair], Tensor]) -> Tensor:
        return torch.stack([loss(pair) for pair in self.pairs]).mean()

    def each(self, value: Callable[[Pair], Tensor]) -> Tensor:
        return torch.stack([value(pair) for pair in self.pairs])

    def token_nll(self) -> Tensor:
        """Mean over all tokens of all chosen responses."""
        return -torch.cat([pair.chosen for pair in self.pairs]).mean()

    def sequence_nll(self) -> Tensor:
        """Mean over chosen responses of their mean over tokens."""
        return -self.each(lambda pair: pair.chosen.mean()).mean()


def read(batch: Batch) -> Facts:
    given: dict[str, Any] = batch.ingredients()
    stats: PolicyStats = given["policy_stats"]
    policy, reference = tokens(batch.policy), tokens(batch.reference)
    collision = tokens(LogProbs(stats.log_collision, batch.policy.mask))
    sides = (policy, reference, collision)
    pairs = [Pair(*(side[row] for side in sides for row in rows)) for rows in given["pairs"].tolist()]
    ratio = torch.stack([ours.sum() - theirs.sum() for ours, theirs in zip(policy, reference, strict=True)])
    return Facts(pairs, ratio[given["labels"] == 1], ratio[given["labels"] == 0], ratio[given["drift"]])


def tokens(log_prob: LogProbs) -> list[Tensor]:
    return [row[is_token] for row, is_token in zip(log_prob.token, log_prob.mask, strict=True)]


Formula = Callable[[Facts, Facts | None], Tensor]
"""The loss of a step, given also the step before it, for what a library remembers."""


def log_sigmoid(x: Tensor) -> Tensor:
    return -torch.log(1 + torch.exp(-x))


def over_pairs(loss: Callable[[Pair], Tensor]) -> Formula:
    return lambda now, _: now.mean(loss)


def dpo(beta: float, smoothing: float = 0.0) -> Formula:
    return over_pairs(
        lambda pair: -(1 - smoothing) * log_sigmoid(beta * pair.h) - smoothing * log_sigmoid(-beta * pair.h)
    )


def exo(beta: float, epsilon: float) -> Formula:
    def loss(pair: Pair) -> Tensor:
        q = 1 / (1 + torch.exp(-beta * pair.h))
        return q * torch.log(q / (1 - epsilon)) + (1 - q) * torch.log((1 - q) / epsilon)

    return over_pairs(loss)


def discopop(beta: float, tau: float) -> Formula:
    def loss(pair: Pair) -> Tensor:
        x = beta * pair.h
        share = torch.sigmoid(x / tau)
        return -(1 - share) * log_sigmoid(x) + share * torch.exp(-x)

    return over_pairs(loss)


def f_dpo(beta: float, derivative: Callable[[Tensor], Tensor]) -> Formula:
    """`derivative` is f' of u, the ratio of the probabilities of a whole response."""
    return over_pairs(lambda pair: -log_sigmoid(beta * (derivative(pair.a.exp()) - derivative(pair.b.exp()))))


def aot(beta: float) -> Formula:
    def loss(now: Facts, _: Facts | None) -> Tensor:
        ours = now.each(lambda pair: pair.chosen.sum() - pair.rejected.sum()).sort().values
        theirs = now.each(lambda pair: pair.ref_chosen.sum() - pair.ref_rejected.sum()).sort().values
        return -log_sigmoid(beta * (ours - theirs)).mean()

    return loss


def aot_unpaired(beta: float) -> Formula:
    """As many desirable as undesirable responses, as where both come from pairs."""
    return lambda now, _: -log_sigmoid(beta * (now.desirable.sort().values - now.undesirable.sort().values)).mean()


def bco(beta: float, running: bool) -> Formula:
    def loss(now: Facts, before: Facts | None) -> Tensor:
        steps = [step for step in (before, now) if step is not None] if running else []
        rewards = [beta * torch.cat([step.each(lambda p: p.a), step.each(lambda p: p.b)]).mean() for step in steps]
        delta = torch.stack(rewards).mean().detach() if running else 0.0
        return now.mean(lambda pair: -log_sigmoid(beta * pair.a - delta) - log_sigmoid(-(beta * pair.b - delta)))

    return loss


def bco_unpaired(beta: float) -> Formula:
    def loss(now: Facts, before: Facts | None) -> Tensor:
        steps = [step for step in (before, now) if step is not None]
        delta = beta * torch.cat([part for step in steps for part in (step.desirable, step.undesirable)]).mean()
        delta = delta.detach()
        parts = [-log_sigmoid(beta * now.desirable - delta), -log_sigmoid(delta - beta * now.undesirable)]
        return torch.cat(parts).mean()

    return loss


def kto(beta: float) -> Formula:
    def loss(now: Facts, _: Facts | None) -> Tensor:
        z = max(0.0, now.borrowed.mean().item())
        desirable = 1 - torch.sigmoid(beta * (now.desirable - z))
        return torch.cat([desirable, 1 - torch.sigmoid(beta * (z - now.undesirable))]).mean()

    return loss


def apo_zero_unpaired(now: Facts, _: Facts | None) -> Tensor:
    return torch.cat([1 - torch.sigmoid(0.1 * now.desirable), torch.sigmoid(0.1 * now.undesirable)]).mean()


def simpo(beta: float, ratio: float) -> Formula:
    """`ratio` is gamma / beta, in nats a token."""
    return over_pairs(lambda pair: -log_sigmoid(beta * (pair.d_mean - ratio)))


def odds_ratio(weight: float) -> Formula:
    def log_odds(log_prob: Tensor) -> Tensor:
        return log_prob - torch.log(1 - torch.exp(log_prob))

    return over_pairs(lambda pair: -weight * log_sigmoid(log_odds(pair.chosen.mean()) - log_odds(pair.rejected.mean())))


def weighted(*terms: tuple[float, Formula]) -> Formula:
    return lambda now, before: torch.stack([weight * formula(now, before) for weight, formula in terms]).sum()


def token_nll(now: Facts, _: Facts | None) -> Tensor:
    return now.token_nll()


def sequence_nll(now: Facts, _: Facts | None) -> Tensor:
    return now.sequence_nll()
