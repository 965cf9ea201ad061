"""The curves of a loss, computed from the loss itself.

One batch for every loss: three responses of one token to one prompt. Row 0 is chosen, row 1 rejected, row 2 stands
between them. Their log-probabilities are B + m/2, B - m/2 and B nats under the policy and B under the reference, so
that m is the margin of log-ratios, and of log-probabilities where a loss has no reference. B = -(M + 1) / 2, where
M is the largest margin shown: every log-probability is below 0. `batch` has the rest. Each margin is a batch of its
own, also for a loss that compares across items.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dpo_lab.catalogue.curve import Curve, Picture
from dpo_lab.catalogue.entry import Entry
from dpo_lab.needs import Objective
from dpo_lab.types import LogProbs, LossOutput, PolicyStats

FACTORS = (0.5, 1.0, 2.0)
VARIED = ("beta", "gamma", "weight")
# beta times the largest margin shown: a sigmoid has almost all of its bend there.
REACH = 3.0
# Nats, for a loss without beta.
LARGEST_MARGIN = 4.0


def compute_picture(entry: Entry, num_points: int = 61) -> Picture:
    """The curves of `entry`: its first knob of `VARIED` at half, once and twice its default; one curve without one.

    The margins reach to `REACH` / beta, the loss's own or that of the first loss inside it, else to `LARGEST_MARGIN`.
    """
    defaults = {argument.name: argument.default for argument in entry.arguments}
    knob = next((name for name in VARIED if defaults.get(name)), None)
    beta = next(_betas(entry.function), None)
    largest = REACH / beta if beta else LARGEST_MARGIN
    margins = [largest * (2 * index / (num_points - 1) - 1) for index in range(num_points)]
    if knob is None:
        return Picture(entry.name, entry.kind, (_curve("", entry.objective, margins, is_default=True),))
    values = [factor * defaults[knob] for factor in FACTORS]
    curves = [
        _curve(f"{knob} {value:g}", entry.with_knobs(**{knob: value}), margins, is_default=value == defaults[knob])
        for value in values
    ]
    return Picture(entry.name, entry.kind, tuple(curves))


def batch(margin: Tensor, base: float) -> dict[str, Any]:
    """Every ingredient a loss may name, for one margin (nats).

    Judgements: the pair (0, 1), of which the chosen one is better with probability 0.9; the list 0, 2, 1; labels 1 and
    0, and none for row 2, which also stands in as the borrowed response of either; scores 4, 0 and 2. The policy's
    distribution: the log-probability that two of its draws agree is B, and the sequential KL of the rows is 2, 8 and
    5 nats. Generators have the rows' numbers for seeds; the state is empty, as before the first step.
    """
    token = torch.stack([base + margin / 2, base - margin / 2, torch.full_like(margin, base)])[:, None]
    mask = torch.ones(3, 1, dtype=torch.bool)
    constant = torch.full_like(token, base).detach()
    return {
        "policy": LogProbs(token, mask),
        "reference": LogProbs(constant, mask),
        "pairs": torch.tensor([[0, 1]]),
        "chosen": torch.tensor([0]),
        "ranking": torch.tensor([[0, 2, 1]]),
        "labels": torch.tensor([1, 0, -1]),
        "scores": torch.tensor([4.0, 0.0, 2.0], dtype=token.dtype),
        "win_probability": torch.tensor([0.9], dtype=token.dtype),
        "drift": torch.tensor([2, 2]),
        "generator": [torch.Generator().manual_seed(row) for row in range(3)],
        "policy_stats": PolicyStats(constant),
        "sequential_kl": torch.tensor([2.0, 8.0, 5.0], dtype=token.dtype),
        "state": {},
    }


def evaluate(objective: Objective, margin: float, base: float) -> tuple[float | None, float | None]:
    """Loss of a step on `batch`, and minus its derivative with respect to the margin; None for what is not finite."""
    leaf = torch.tensor(margin, dtype=torch.float64, requires_grad=True)
    outputs = objective(batch(leaf, base))
    loss = torch.stack([term.weight * _reduce(outputs[term.name]) for term in objective.terms]).sum()
    (slope,) = torch.autograd.grad(loss, leaf)
    return _finite(loss.item()), _finite(0.0 - slope.item())


def _betas(value: Any) -> Iterator[float]:
    """Every beta of a loss with its knobs filled in, its own before those of the losses inside it."""
    knobs = value.keywords if isinstance(value, partial) else value
    if isinstance(knobs, dict):
        yield from (inner for name, inner in knobs.items() if name == "beta")
        for inner in knobs.values():
            yield from _betas(inner)


def _reduce(output: LossOutput) -> Tensor:
    return (output.loss * output.weight).sum() / output.weight.sum()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _curve(label: str, objective: Objective, margins: list[float], *, is_default: bool) -> Curve:
    base = -(margins[-1] + 1) / 2
    points = [evaluate(objective, margin, base) for margin in margins]
    return Curve(
        label=label,
        margin=tuple(margins),
        loss=tuple(loss for loss, _ in points),
        weight=tuple(weight for _, weight in points),
        is_default=is_default,
    )
