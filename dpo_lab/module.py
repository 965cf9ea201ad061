"""One optimizer step. It holds policy and reference and knows neither the loss, the model nor the logger."""

from collections.abc import Callable
from typing import ClassVar, cast, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dpo_lab.errors import UserError
from dpo_lab.metrics import Tally, first_reward, tally_batch
from dpo_lab.model.policy import Policy
from dpo_lab.needs import Objective
from dpo_lab.reference.reference import Reference
from dpo_lab.types import LogProbs, LossOutput, PreferenceBatch, Window


class NonFiniteError(UserError):
    """A gradient is infinite or not a number: the update would destroy the weights, so it is not made."""

    exit_code: ClassVar[int] = 6


OptimizerFactory = Callable[[Policy], tuple[Optimizer, LRScheduler]]


@final
class PreferenceModule(pl.LightningModule):
    """Trains `policy` on windows: everything one optimizer step sees, in the micro-batches it is computed in.

    The loss of a step is ``sum_k weight_k * sum(loss_k * weight) / sum(weight)`` over the whole window. The
    denominators come from masks alone, so they are known before the first forward pass; each micro-batch then adds
    its exact share of the gradient, however the window is split.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Reference | None,
        objective: Objective,
        make_optimizer: OptimizerFactory,
        *,
        clip_norm: float | None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.policy = policy
        self._reference = reference
        self.objective = objective
        self._make_optimizer = make_optimizer
        self._clip_norm = clip_norm
        self.last_tally = Tally()

    @property
    def reference(self) -> Reference | None:
        """None where no term of the objective names a reference."""
        return self._reference

    def setup(self, stage: str) -> None:
        if self._reference is not None:
            self._reference.to(self.trainer.strategy.root_device)

    def configure_optimizers(self):
        optimizer, scheduler = self._make_optimizer(self.policy)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, window: Window, index: int) -> None:
        """Update on one window; what was counted before the update stands in `last_tally`."""
        optimizer, scheduler = cast(LightningOptimizer, self.optimizers()), cast(LRScheduler, self.lr_schedulers())
        self.last_tally = Tally()
        denominators = self._denominators(window)
        for batch in window:
            outputs, tally, _, _ = self.score(batch)
            self.manual_backward(self._share(outputs, denominators))
            self.last_tally.merge(tally)
        limit = float("inf") if self._clip_norm is None else self._clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), limit)
        self.last_tally.add("grad_norm", norm[None])
        self.last_tally.add(
            "lr", torch.tensor([optimizer.param_groups[0]["lr"]], dtype=torch.float64, device=norm.device)
        )
        if not bool(norm.isfinite()):
            raise NonFiniteError(
                f"the gradient at optimizer step {self.trainer.global_step + 1} is not finite, and the update was not "
                "made; try a smaller optimizer.lr, trainer.clip_norm, or trainer.precision=32-true"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()

    def validation_step(self, window: Window, index: int) -> list[dict[str, Tensor]]:
        """Scores a window without gradient; returns per-response numbers for the record of predictions."""
        rows = []
        self.last_tally = Tally()
        for batch in window:
            outputs, tally, policy, reference = self.score(batch)
            self.last_tally.merge(tally)
            rows.append(self._predictions(batch, outputs, policy, reference))
        return rows

    def score(self, batch: PreferenceBatch) -> tuple[dict[str, LossOutput], Tally, LogProbs, LogProbs | None]:
        """Losses and curves of one micro-batch: the one way in which training, validation and offline scoring do it."""
        policy = self.policy.log_prob(batch.inputs)
        reference = None if self._reference is None else self._reference.log_prob(batch.inputs)
        outputs = self.objective(self._ingredients(batch, policy, reference))
        return outputs, tally_batch(self.objective, outputs, batch, policy, reference), policy, reference

    @staticmethod
    def _ingredients(batch: PreferenceBatch, policy: LogProbs, reference: LogProbs | None) -> dict[str, object]:
        return {"policy": policy, "reference": reference, "pairs": batch.pairs, "chosen": batch.chosen}

    def _denominators(self, window: Window) -> dict[str, Tensor]:
        """sum(weight) of each term over the window. Weights depend on masks alone, so zeros stand in for log-probs."""
        totals: dict[str, Tensor] = {}
        for batch in window:
            mask = self.policy.decision_mask(batch.inputs)
            blank = LogProbs(torch.zeros(mask.shape, device=mask.device), mask)
            for name, output in self.objective(self._ingredients(batch, blank, blank)).items():
                totals[name] = totals.get(name, torch.zeros((), device=mask.device)) + output.weight.sum()
        return totals

    def _share(self, outputs: dict[str, LossOutput], denominators: dict[str, Tensor]) -> Tensor:
        shares = (
            term.weight * (outputs[term.name].loss * outputs[term.name].weight).sum() / denominators[term.name]
            for term in self.objective.terms
        )
        return torch.stack(list(shares)).sum()

    def _predictions(
        self, batch: PreferenceBatch, outputs: dict[str, LossOutput], policy: LogProbs, reference: LogProbs | None
    ) -> dict[str, Tensor]:
        role = torch.full((len(batch.group),), -1, dtype=torch.long, device=batch.group.device)
        if len(batch.pairs):
            role[batch.pairs[:, 1]] = 0
        role[batch.chosen] = 1
        rows = {
            "key": batch.key,
            "group": batch.group,
            "role": role,
            "policy_log_prob": policy.sum(),
            "length": policy.length(),
        }
        if reference is not None:
            rows["reference_log_prob"] = reference.sum()
        reward = first_reward(self.objective, outputs)
        if reward is not None:
            rows["reward"] = reward
        return rows
