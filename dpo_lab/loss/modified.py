"""Modifiers that apply to any loss of pairs: label smoothing, weights of the policy's own confidence, weighed tails."""

import inspect
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.loss.wpo import pair_weight
from dpo_lab.needs import LossFunction, Objective, Term, comes_to, is_composite, read_needs
from dpo_lab.pair_rows import laid_out, mean_over_pairs, weigh_tails
from dpo_lab.ranges import BelowHalf, Probability
from dpo_lab.types import LogProbs, LossOutput, Pairs, PolicyStats

PAIRED = frozenset({"policy", "reference", "pairs"})
"""What a loss may ask for and still be modified: it is then a function of two responses and nothing else."""


def modified(
    *, base: LossFunction, label_smoothing: BelowHalf = 0.0, confidence: bool = False, alpha: Probability = 1.0
) -> Objective:
    """w (1 - e) L(chosen, rejected) + w e L(rejected, chosen), L the loss `base` on log-probs with weighed tails.

    Label smoothing e as in conservative DPO (Mitchell 2023): with probability e a label is flipped. The weight w of
    the policy's confidence in a pair is that of `wpo` (Zhou et al. 2024, arXiv 2406.11827, equation 2). Tails are
    weighed as in `ld_dpo` (Liu et al. 2024, arXiv 2409.06411), policy and reference alike. With `sigmoid` as base each
    of the three alone is the loss of that name; with the defaults nothing is modified.

    Args:
        base: any loss of pairs that asks for policy, reference and pairs alone.
        label_smoothing: e, in [0, 0.5). On top of the base's own, where it has one.
        confidence: whether pairs are weighted by w, detached.
        alpha: what a token past the length of the shorter response counts, in [0, 1].

    Returns:
        one term with the base's name; items, units and reward are the base's. With weighed tails the reward of a
        response is averaged over its pairs.

    Raises:
        UserError: when `base` is no such loss; the message lists those that are.
    """
    name = _name(base)
    if not can_be_modified(base):
        raise UserError(
            f"loss.base: {name} takes no modifier (label_smoothing, confidence, alpha): it is no function of two "
            f"responses alone. Losses that take them: {', '.join(_modifiable())}"
        )
    needs = (*read_needs(base), *(["policy_stats"] if confidence else []))
    title = name if alpha == 1 else f"{name} with alpha={alpha:g}"
    loss = _with_needs(partial(_modified, base, label_smoothing, alpha), title, needs)
    if alpha < 1:
        loss = comes_to("alpha=1", of_same="length")(loss)
    elif (plain := Term(name, base).comes_to) is not None:
        loss = comes_to(plain[0], of_same=plain[1])(loss)
    return Objective((Term(name, loss),))


def _modified(base: LossFunction, label_smoothing: float, alpha: float, **given: Any) -> LossOutput:
    policy_stats: PolicyStats | None = given.pop("policy_stats", None)
    policy: LogProbs = given["policy"]
    pairs: Pairs = given["pairs"]
    plain = base(**given)
    output = plain
    if alpha < 1:
        tails = {side: weigh_tails(given[side], pairs, alpha) for side in ("policy", "reference") if side in given}
        given = {**given, **tails, "pairs": laid_out(len(pairs), pairs.device)}
        output = base(**given)
    loss: Tensor = output.loss
    if label_smoothing > 0:
        swapped = base(**{**given, "pairs": given["pairs"].flip(1)}).loss
        loss = (1 - label_smoothing) * loss + label_smoothing * swapped
    if policy_stats is not None:
        loss = pair_weight(policy, policy_stats, pairs) * loss
    reward = output.reward
    if alpha < 1 and plain.reward is not None and reward is not None:
        reward = mean_over_pairs(reward, pairs, plain.reward)
    return output._replace(loss=loss, reward=reward)


def _with_needs(loss: LossFunction, name: str, needs: tuple[str, ...]) -> LossFunction:
    """`loss` under `name`, with a signature that names its ingredients."""

    def named(**given: Any) -> LossOutput:
        return loss(**given)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named.__name__ = name
    vars(named)["__signature__"] = inspect.Signature([inspect.Parameter(need, kind) for need in needs])
    return named


def can_be_modified(loss: LossFunction) -> bool:
    """Whether `modified` takes `loss` as its base: a function of two responses, not a sum of losses."""
    if is_composite(loss):
        return False
    return set(read_needs(loss)) <= PAIRED and "pairs" in read_needs(loss) and not Term("", loss).whole_batch


def _modifiable() -> list[str]:
    package = import_module("dpo_lab.loss")
    functions = {module.name: getattr(package, module.name) for module in iter_modules(package.__path__)}
    return sorted(name for name, function in functions.items() if can_be_modified(function))


def _name(loss: LossFunction) -> str:
    return loss.func.__name__ if isinstance(loss, partial) else loss.__name__
