"""The knobs of an evaluation, declared once: what the config of `dpo-lab evaluate` is compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dpo_lab.ranges import NonNegativeInt, PositiveInt

Against = Literal["reference", "chosen"]


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Every top-level key of ``conf/evaluate.yaml``.

    Attributes:
        judge: what a node with ``_target_`` names, or such a node; null: the known reward, where the data has one.
        num_samples: responses drawn from a policy that writes text; prompts are those of the split, over and over. 0:
            none, and what the data has judged is all that is measured.
        max_new_tokens: where a response that does not end is left; null: as in the run.
        against: what a response is compared with: one that the ``reference`` draws, or the ``chosen`` one of the data;
            null: the first of these that there is.
        cutoffs: places that NDCG and hit rate of a ranking look at.
        num_candidates: where a policy that writes text names items: how many are ranked beside the right one, drawn
            uniformly; null: all that the prompt does not show; 0: nothing is ranked.
        wandb: whether W&B gets the figures too; null: where the run was mirrored.
    """

    judge: Callable[..., Any] | Mapping[str, Any] | None = None
    num_samples: NonNegativeInt = 500
    max_new_tokens: PositiveInt | None = None
    against: Against | None = None
    cutoffs: list[PositiveInt] = field(default_factory=lambda: [1, 5, 10])
    num_candidates: NonNegativeInt | None = None
    wandb: bool | None = None
