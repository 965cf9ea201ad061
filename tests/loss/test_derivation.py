"""Each loss and its gradient against its paper's formula in 50 digits, where it is ordinary and where it is hard."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from mpmath import mpf

from dpo_lab import loss as losses
from dpo_lab.needs import Objective, Term, is_composite
from dpo_lab.types import LogProbs, PolicyStats
from tests.loss.batch import Batch, log_probs, total
from tests.loss.derivation import FORMULAS, Judged
from tests.loss.multiprecision import Number, Real, differentiate

# Two prompts with three responses each, of unequal lengths, and scores that are not zero.
LENGTHS = (3, 1, 2, 4, 2, 3)
PAIRS = ((0, 1), (0, 2), (1, 2), (4, 3), (4, 5), (3, 5))
RANKING = ((0, 1, 2), (4, 3, 5))
# Where a response stands in its list, from 2, the best.
PLACES = (2, 1, 0, 1, 2, 0)
# Without the random part, which no formula foretells.
ALWAYS = {"beta_dpo": {"keep_fraction": 1.0}}
# Beside the defaults, other forms of a loss.
FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "sigmoid": ({"label_smoothing": 0.3},),
    "robust": ({"label_smoothing": 0.4},),
    "ipo": ({"normalization": "mean"},),
    "hinge": ({"normalization": "mean"},),
    "exo": ({"label_smoothing": 0.2},),
    "bco": ({"shift": "none"},),
    "bco_unpaired": ({"shift": "pooled_mean"}, {"shift": "none"}),
    "discopop": ({"tau": 1.0},),
    "f_dpo": ({"divergence": "reverse_kl"}, {"divergence": "forward_kl"}, {"divergence": "alpha", "alpha": 0.3}),
    "odpo": ({"offset": "difference"},),
    "rpo": ({"normalization": "token"}, {"normalization": "sequence_sum", "weight": 0.3}),
    "wpo": ({"clamp": True}, {"alignment": "none"}),
    "ld_dpo": ({"scope": "policy"}, {"alpha": 0.0}),
    "simpo": ({"label_smoothing": 0.1, "gamma": 1.5},),
    "alphapo": ({"alpha": 0.0}, {"alpha": -0.5}),
    "kto": ({"desirable_weight": 1.5, "undesirable_weight": 0.5},),
    "sft": ({"normalization": "sequence_mean"}, {"normalization": "sequence_sum"}),
}
# Beyond it `f_dpo` and `alphapo` say that they are bounded, and in float32 a sum of squares is not far.
LARGEST = {torch.float64: mpf(10) ** 300, torch.float32: mpf(10) ** 30}
# Below it a number has fewer digits.
SMALLEST = {torch.float64: 1e-300, torch.float32: 1e-36}


@dataclass(frozen=True)
class Rows:
    """Log-probs of the responses of a case, nats."""

    policy: list[list[float]]
    reference: list[list[float]]


def ordinary(seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> Rows:
    random = Random(seed)
    sides = [[[-random.uniform(0.05, 4) for _ in range(length)] for length in lengths] for _ in range(2)]
    return Rows(*sides)


def equal_to_the_reference() -> Rows:
    return Rows(ordinary().policy, ordinary().policy)


def everything_equal() -> Rows:
    rows = [[-1.5] * length for length in LENGTHS]
    return Rows(rows, rows)


def near_certainty() -> Rows:
    """Probabilities from 0.999 to 1 - 1e-25."""
    random = Random(4)
    sides = [[[-(10 ** -random.uniform(3, 25)) for _ in range(length)] for length in LENGTHS] for _ in range(2)]
    return Rows(*sides)


def near_minus_ten_thousand() -> Rows:
    def lowered(rows: list[list[float]]) -> list[list[float]]:
        return [[token - 1e4 / len(row) for token in row] for row in rows]

    return Rows(lowered(ordinary().policy), lowered(ordinary().reference))


def far_apart(sign: int, side: str) -> Rows:
    """Margins of 1e4 nats and more from place to place: of log-ratios, by lowering one response on one side."""
    rows = ordinary()
    lowered = [
        [token - 1e4 * (place if sign > 0 else 2 - place) / len(row) for token in row]
        for place, row in zip(PLACES, getattr(rows, side), strict=True)
    ]
    return replace(rows, **{side: lowered})


CASES: dict[str, tuple[Callable[[], Rows], dict[str, float]]] = {
    "ordinary": (ordinary, {}),
    "policy = reference": (equal_to_the_reference, {}),
    "everything equal": (everything_equal, {}),
    "probabilities near 1": (near_certainty, {}),
    "log-probs near -1e4": (near_minus_ten_thousand, {}),
    "beta 0.01": (ordinary, {"beta": 0.01}),
    "beta 10": (ordinary, {"beta": 10.0}),
    "margins of 1e4": (lambda: far_apart(1, "reference"), {}),
    "margins of -1e4": (lambda: far_apart(-1, "reference"), {}),
    "policy's margins of 1e4": (lambda: far_apart(-1, "policy"), {}),
    "policy's margins of -1e4": (lambda: far_apart(1, "policy"), {}),
    "one token each": (lambda: ordinary(1, (1,) * len(LENGTHS)), {}),
    "a batch of one": (lambda: ordinary(2, (3, 2)), {}),
}


def batch_of(rows: Rows, dtype: torch.dtype) -> Batch:
    """The same numbers in either dtype: those of float32, which float64 holds too."""
    num_rows, is_one = len(rows.policy), len(rows.policy) == 2
    policy, reference = (log_probs(side, torch.float32) for side in (rows.policy, rows.reference))
    random = Random(3)
    collision = torch.tensor([[-random.uniform(0.05, 2) for _ in row] for row in policy.token])
    kl = torch.tensor([0.4, 0.1, 0.3, 0.6, 0.2, 0.5])[:num_rows]
    return Batch(
        policy=LogProbs(policy.token.detach().to(dtype).requires_grad_(), policy.mask),
        reference=LogProbs(reference.token.detach().to(dtype), reference.mask),
        pairs=torch.tensor(PAIRS[:1] if is_one else PAIRS),
        ranking=torch.tensor([[0, 1]] if is_one else RANKING),
        labels=torch.tensor([1, 0, 0, 1, 1, 0])[:num_rows],
        scores=torch.tensor([2.0, 0.5, -1.0, 0.75, 1.5, -0.25], dtype=dtype)[:num_rows],
        win_probability=torch.tensor([0.82, 0.95, 0.75, 0.69, 0.86, 0.73])[: 1 if is_one else 6].to(dtype),
        drift=torch.tensor([1] if is_one else [1, 2, 4, 0]),
        log_collision=collision.to(dtype),
        sequential_kl=kl.to(dtype).requires_grad_(),
    )


def judged(batch: Batch) -> Judged:
    given: dict[str, Any] = batch.ingredients()
    stats: PolicyStats = given["policy_stats"]

    def rows(values: torch.Tensor) -> list[list[float]]:
        return [row[mask].tolist() for row, mask in zip(values, batch.policy.mask, strict=True)]

    return Judged(
        policy=[list(map(Number, row)) for row in rows(batch.policy.token)],
        reference=[list(map(Number, row)) for row in rows(batch.reference.token)],
        collision=rows(stats.log_collision),
        sequential_kl=list(map(Number, given["sequential_kl"].tolist())),
        pairs=[(chosen, rejected) for chosen, rejected in given["pairs"].tolist()],
        ranking=given["ranking"].tolist(),
        labels=given["labels"].tolist(),
        scores=given["scores"].tolist(),
        win_probability=given["win_probability"].tolist(),
        drift=given["drift"].tolist(),
    )


def derived(name: str, knobs: dict[str, Any], batch: Batch) -> list[Real]:
    """The loss, its slope at each token of the policy, row by row, and at each sequential KL."""
    facts = judged(batch)
    value = FORMULAS[name](facts, **knobs)
    differentiate(value)
    return [value.value, *(leaf.slope for row in [*facts.policy, facts.sequential_kl] for leaf in row)]


def computed(name: str, knobs: dict[str, Any], batch: Batch) -> list[float]:
    """The same of the loss itself."""
    function = getattr(losses, name)

    objective = function(**knobs) if is_composite(function) else Objective((Term(name, partial(function, **knobs)),))
    value = total(objective, batch)
    kl = batch.sequential_kl
    assert kl is not None
    at_tokens, at_kl = torch.autograd.grad(value, (batch.policy.token, kl), materialize_grads=True, allow_unused=True)
    return [value.item(), *at_tokens[batch.policy.mask].tolist(), *at_kl.tolist()]


def knobs_of(name: str) -> dict[str, Any]:
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    return {knob.name: knob.default for knob in parameters if knob.kind is knob.KEYWORD_ONLY} | ALWAYS.get(name, {})


def forms(name: str) -> list[dict[str, Any]]:
    return [knobs_of(name) | form for form in ({}, *FORMS.get(name, ()))]


def rounding(name: str, knobs: dict[str, Any], batch: Batch) -> list[float]:
    """By how much each number moves where every input in float64 is off by what float32 cannot tell apart."""
    exact, found = computed(name, knobs, batch), []
    for seed in range(3):
        signs = torch.randn(batch.policy.token.shape, generator=torch.Generator().manual_seed(seed)).sign()
        moved = replace(
            batch,
            policy=LogProbs((batch.policy.token.detach() * (1 + 2**-23 * signs)).requires_grad_(), batch.policy.mask),
            reference=LogProbs(batch.reference.token * (1 - 2**-23 * signs), batch.reference.mask),
        )
        found.append([abs(a - b) for a, b in zip(computed(name, knobs, moved), exact, strict=True)])
    return [max(each) for each in zip(*found, strict=True)]


def assert_close(found: list[float], true: list[Real], dtype: torch.dtype, relative: float, given: list[float]) -> None:
    """Each to `relative`, plus `given` by its inputs; a slope also to the rounding of what was summed up to it."""
    assert all(map(math.isfinite, found))
    steepest = max(map(abs, true[1:]))
    for place, (ours, theirs, rounded) in enumerate(zip(found, true, given, strict=True)):
        if abs(theirs) < LARGEST[dtype] and steepest < LARGEST[dtype]:
            summed = 4 * torch.finfo(dtype).eps * steepest if place else 0
            allowed = relative * abs(theirs) + 4 * rounded + summed + SMALLEST[dtype]
            assert abs(ours - theirs) <= allowed, f"{ours} is not {float(theirs)} (number {place})"


def test_every_loss_has_a_formula():
    """But the two that are made of others, and `sampo`, which draws tokens at random."""
    files = {file.stem for file in Path(losses.__path__[0]).glob("[!_]*.py")}
    assert set(FORMULAS) == files - {"mix", "modified", "sampo"}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_value_and_gradient_are_those_of_the_paper(name: str):
    """To 1e-9 in float64; in float32 to 1e-5 plus what the rounding of the inputs makes of it."""
    for case, (rows_of, changed) in CASES.items():
        for knobs in forms(name):
            strength = next((knob for knob in ("beta", "gamma", "weight") if knob in knobs), None)
            known = knobs | ({strength: changed["beta"]} if strength and "beta" in changed else {})
            wide, narrow = (batch_of(rows_of(), dtype) for dtype in (torch.float64, torch.float32))
            true = derived(name, known, wide)
            try:
                nothing = [0.0] * len(true)
                assert_close(computed(name, known, wide), true, torch.float64, 1e-9, nothing)
                moved = rounding(name, known, wide)
                assert_close(computed(name, known, narrow), true, torch.float32, 1e-5, moved)
            except AssertionError as error:
                raise AssertionError(f"{name} {known} at {case}: {error}") from error
