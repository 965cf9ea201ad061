"""One optimizer step. It holds policy and reference and knows neither the loss, the model nor the logger."""

from collections.abc import Callable
from functools import cached_property
from itertools import chain
from typing import Any, cast, final

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dpo_lab.errors import UserError
from dpo_lab.metrics import Tally, predictions, tally_batch, tally_shares
from dpo_lab.model.fingerprint import tensor_fingerprint
from dpo_lab.model.policy import Policy
from dpo_lab.needs import Objective
from dpo_lab.non_finite import non_finite_error
from dpo_lab.ranks import gather_over_ranks, num_ranks, rank, sum_gradients, sum_over_ranks
from dpo_lab.reference.moving import MovingReference
from dpo_lab.reference.reference import Reference
from dpo_lab.scoring import Measured, Scored, Scorer, join_batches, join_measured
from dpo_lab.seeds import global_generators, set_global_generators
from dpo_lab.types import PreferenceBatch, State, Window

VALIDATION_STEP = -1
"""Stands for the optimizer step in random subsets while validating, so that each validation sees the same ones."""


OptimizerFactory = Callable[[Policy], tuple[Optimizer, LRScheduler]]


@final
class PreferenceModule(pl.LightningModule):
    """Trains `policy` on windows: everything one optimizer step sees, in the micro-batches it is computed in.

    The loss of a step is ``sum_k weight_k * sum(loss_k * weight) / sum(weight)`` over the whole window and all ranks.
    Where a term compares across items, log-probs of the whole window are gathered first, without gradient; the loss
    gives a gradient with respect to each of them, and a second pass takes it to the weights, micro-batch by
    micro-batch. Otherwise the denominators, which come from masks alone, are known before the first forward pass,
    and each micro-batch adds its exact share of the gradient.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Reference | None,
        objective: Objective,
        make_optimizer: OptimizerFactory,
        *,
        clip_norm: float | None,
        seed: int = 0,
    ):
        """`seed` is that of the random subsets that a loss may draw."""
        super().__init__()
        self.automatic_optimization = False
        self.policy = policy
        self._reference = reference
        self._scheduled = objective
        self.objective = objective.at(0)
        """With the weights of the newest update, or of the first before it."""
        self._make_optimizer = make_optimizer
        self._clip_norm = clip_norm
        self._scorer = Scorer(policy, reference, objective, seed)
        self.loss_states: dict[str, State] = {}
        self.last_tally = Tally()
        self.last_num_items = 0
        self.keeps_rows = False
        """Whether `last_rows` holds per-response numbers of each step, as `validation_step` returns them."""
        self.last_rows: list[dict[str, Tensor]] = []
        self.watch: Callable[[Scored], None] | None = None
        """Called in a step with all that is known of each part of it, before the way back; it may raise."""

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Weights that are not trained (those below an adapter) are left out, known by their hash."""
        left_out = self._untrained()
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in left_out}
        checkpoint["untrained_weights"] = self._untrained_fingerprint
        checkpoint["loss_states"] = self.loss_states
        reference = self._reference
        checkpoint["reference"] = None if reference is None else reference.fingerprint()
        checkpoint["reference_state"] = reference.state() if isinstance(reference, MovingReference) else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """
        Raises:
            UserError: the checkpoint was made on other untrained weights, or beside another reference.
        """
        if checkpoint["untrained_weights"] != self._untrained_fingerprint:
            raise UserError("the checkpoint was made on another base model: its untrained weights differ from these")
        checkpoint["state_dict"] = {**self._untrained(), **checkpoint["state_dict"]}
        self.loss_states = checkpoint["loss_states"]
        num_updates = checkpoint["step" if "step" in checkpoint else "global_step"]  # the latter in Lightning's own
        self.objective = self._scheduled.at(max(0, num_updates - 1))
        reference, state = self._reference, checkpoint["reference_state"]
        if isinstance(reference, MovingReference) and state is not None:
            reference.load_state(state)
        if checkpoint["reference"] != (None if reference is None else reference.fingerprint()):
            raise UserError("the checkpoint was made beside another reference: its weights differ from these")

    def _untrained(self) -> dict[str, Tensor]:
        """Weights that no update touches, by their names in a checkpoint."""
        named = self.state_dict(keep_vars=True).items()
        return {name: t for name, t in named if isinstance(t, torch.nn.Parameter) and not t.requires_grad}

    @cached_property
    def _untrained_fingerprint(self) -> str | None:
        """Hash of the weights that no update touches, so computed once; None where there are none."""
        untrained = self._untrained()
        return tensor_fingerprint(untrained) if untrained else None

    @cached_property
    def _trained(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

    def transfer_batch_to_device(self, batch: Window, device: torch.device, dataloader_idx: int) -> Window:
        """Windows are collated on the CPU, so that nothing has to be looked for there."""
        return batch if device.type == "cpu" else _to_device(batch, device)

    def training_step(self, window: Window, index: int) -> None:
        """Update on one window; what all ranks counted before the update stands in `last_tally`."""
        optimizer, scheduler = cast(LightningOptimizer, self.optimizers()), cast(LRScheduler, self.lr_schedulers())
        step = self.trainer.global_step
        self.last_tally, self.last_rows = Tally(), []
        self.objective = self._scheduled.at(step)
        if self.objective.whole_batch:
            self._backward_together(window, step)
        else:
            self._backward_apart(window, step)
        sum_gradients(self._trained)
        self._count_over_ranks(window)
        if self.keeps_rows:
            self.last_rows = _over_ranks(self.last_rows)
        norm = self._clip_gradient()
        self.last_tally.add("grad_norm", norm[None])
        for name, number in {"lr": optimizer.param_groups[0]["lr"], **self._moving_weights(step)}.items():
            self.last_tally.add(name, torch.tensor([number], dtype=torch.float64, device=norm.device))
        if not bool(norm.isfinite()):
            with torch.no_grad():
                scored = self.score(window)
            raise non_finite_error(window, scored, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        if isinstance(self._reference, MovingReference):
            self._reference.follow(self.policy, step + 1)

    def _moving_weights(self, step: int) -> dict[str, float]:
        return {
            f"loss_weight/{term.name}": term.weight_at(step) for term in self._scheduled.terms if term.ramp is not None
        }

    def validation_step(self, window: Window, index: int) -> list[dict[str, Tensor]]:
        """Scores a window of each rank without gradient; returns per-response numbers for the record of predictions."""
        self.last_tally = Tally()
        scored = self.score(window) if window else []
        for part in scored:
            self.last_tally.merge(self._tally(part))
        self._count_over_ranks(window)
        return _over_ranks([self._rows(part) for part in scored])

    def test_step(self, window: Window, index: int) -> list[dict[str, Tensor]]:
        """As `validation_step`, on data that nothing was chosen by."""
        return self.validation_step(window, index)

    def score(self, window: Window) -> list[Scored]:
        """Losses of a window at the present weights and states; one part where a term sees the whole batch."""
        measured = [self._scorer.measure(batch) for batch in window]
        parts = list(zip(window, measured, strict=True))
        if self.objective.whole_batch:
            parts = [(join_batches(window), join_measured(measured))]
        return [self._objective_on(batch, part, VALIDATION_STEP) for batch, part in parts]

    def _objective_on(self, batch: PreferenceBatch, measured: Measured, step: int) -> Scored:
        ingredients = self._scorer.ingredients(batch, measured, step)
        return Scored(batch, measured, self.objective(ingredients, self.loss_states))

    def _tally(self, part: Scored) -> Tally:
        return tally_batch(self.objective, part.outputs, part.batch, part.measured.policy, part.measured.reference)

    def _rows(self, part: Scored) -> dict[str, Tensor]:
        return predictions(self.objective, part.outputs, part.batch, part.measured.policy, part.measured.reference)

    def _backward_apart(self, window: Window, step: int) -> None:
        """Each micro-batch by itself, against denominators of the whole window."""
        is_alone = len(window) == 1 and num_ranks() == 1
        denominators = None if is_alone else self._denominators(window, step)
        for batch in window:
            part = self._objective_on(batch, self._scorer.measure(batch), step)
            self.manual_backward(self._count_and_add(part, denominators or _own_denominators(part)))

    def _backward_together(self, window: Window, step: int) -> None:
        """The loss on all items of all ranks at once, then its gradient through one micro-batch after the other."""
        if len(window) == 1 and num_ranks() == 1:
            part = self._objective_on(window[0], self._scorer.measure(window[0]), step)
            self.manual_backward(self._count_and_add(part, _own_denominators(part)))
        else:
            noise, gradients = self._gradients_of_rows(window, step)
            for batch, states, wanted in zip(window, noise, gradients, strict=True):
                set_global_generators(states)  # dropout falls as it fell in the first pass
                attached = self._scorer.measure(batch).attached()
                pairs = zip(attached, wanted, strict=True)
                self.manual_backward(torch.stack([(tensor * row).sum() for tensor, row in pairs]).sum())

    def _gradients_of_rows(self, window: Window, step: int) -> tuple[list[dict[str, Tensor]], list[list[Tensor]]]:
        """For each micro-batch: the random states before its pass, and the loss's gradient for what it measures."""
        noise, measured = [], []
        with torch.no_grad():
            for batch in window:
                noise.append(global_generators())
                measured.append(self._scorer.measure(batch))
        mine = (_to_cpu(join_batches(window)), _to_cpu(join_measured(measured)))
        ranks = gather_over_ranks(mine)
        device = measured[0].policy.token.device
        batch = _to_device(join_batches([one for one, _ in ranks]), device)
        whole = _to_device(join_measured([one for _, one in ranks]), device).as_leaves()
        part = self._objective_on(batch, whole, step)
        loss = self._count_and_add(part, _own_denominators(part), is_counted=rank() == 0)
        found = torch.autograd.grad(loss, whole.attached(), materialize_grads=True)
        first = sum(len(one.group) for one, _ in ranks[: rank()])
        gradients = []
        for one in measured:
            num_rows, width = one.policy.mask.shape
            rows = [gradient[first : first + num_rows] for gradient in found]
            gradients.append([row[:, :width] if row.ndim == 2 else row for row in rows])
            first += num_rows
        return noise, gradients

    def _count_over_ranks(self, window: Window) -> None:
        """Put together what all ranks have counted of their windows, and how many items those had."""
        self.last_tally = self.last_tally.over_ranks()
        self.last_num_items = sum(gather_over_ranks(sum(batch.num_items for batch in window)))

    def _clip_gradient(self) -> Tensor:
        """The norm of the gradient before it was clipped."""
        gradients = [p.grad for p in self._trained if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not bool(norm.isfinite()):  # squares of 1e20 are no float32, though the gradient is one
            norm = torch.nn.utils.get_total_norm([gradient.double() for gradient in gradients])
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._trained, self._clip_norm, norm)
        return norm

    def _count_and_add(self, part: Scored, denominators: dict[str, Tensor], *, is_counted: bool = True) -> Tensor:
        """The weighted sum of the terms; what they say goes into `last_tally`, and their states are kept."""
        if self.watch is not None:
            self.watch(part)
        shares = {
            term.name: term.weight
            * (part.outputs[term.name].loss * part.outputs[term.name].weight).sum()
            / _or_one(denominators[term.name])
            for term in self.objective.terms
        }
        if is_counted:
            self.last_tally.merge(self._tally(part))
            self.last_tally.merge(tally_shares(shares, part.measured.attached()))
            if self.keeps_rows:
                self.last_rows.append(self._rows(part))
        states = {name: output.state for name, output in part.outputs.items() if output.state is not None}
        self.loss_states = {**self.loss_states, **states}
        first, *others = shares.values()
        return torch.stack([first, *others]).sum() if others else first

    def _denominators(self, window: Window, step: int) -> dict[str, Tensor]:
        """sum(weight) of each term over the window and all ranks, from blank log-probs."""
        totals: dict[str, Tensor] = {}
        for batch in window:
            for name, output in self._objective_on(batch, self._scorer.blank(batch), step).outputs.items():
                added = output.weight.sum().double()
                totals[name] = totals[name] + added if name in totals else added
        summed = sum_over_ranks(torch.stack([totals[term.name] for term in self.objective.terms]))
        return {term.name: total for term, total in zip(self.objective.terms, summed, strict=True)}


def _over_ranks(rows: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Those of all ranks, in their order."""
    return rows if num_ranks() == 1 else list(chain.from_iterable(gather_over_ranks(_to_cpu(rows))))


def _or_one(total: Tensor) -> Tensor:
    """1 in place of 0: a term without an item has a loss of 0, and a gradient of 0."""
    return torch.where(total > 0, total, 1.0)


def _own_denominators(part: Scored) -> dict[str, Tensor]:
    return {name: output.weight.sum().detach() for name, output in part.outputs.items()}


def _to_device(value: Any, device: torch.device) -> Any:
    return move_data_to_device(value, device)


def _to_cpu(value: Any) -> Any:
    return _to_device(value, torch.device("cpu"))
