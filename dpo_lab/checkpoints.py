"""Checkpoints of a run: when they are made, all that is in them, and how a later process goes on from one."""

import math
import signal
from typing import Any, NamedTuple, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from dpo_lab.data.windows import WindowLoader
from dpo_lab.errors import UserError
from dpo_lab.interruption import Interruption, Stopped
from dpo_lab.module import PreferenceModule
from dpo_lab.non_finite import NonFiniteError
from dpo_lab.ranks import from_first_rank, gather_over_ranks, num_ranks, rank
from dpo_lab.recorder import Recorder
from dpo_lab.run import RunFolder
from dpo_lab.run.kept import Mode, best_step, keep, prune, read_kept, set_value
from dpo_lab.seeds import global_generators, set_global_generators
from dpo_lab.start_checks import StartChecks
from dpo_lab.trainer import TrainerSettings

FORMAT = 1
CONTENT = (
    *("step", "state_dict", "optimizer_states", "lr_schedulers"),
    *("loader", "recorder", "start_checks", "generators"),
)
"""What a checkpoint must hold to be gone on from."""


class Record(NamedTuple):
    """Where a run is written, and what writes into it."""

    folder: RunFolder
    recorder: Recorder


@final
class Checkpoints(pl.Callback):
    """Saves at the end of an optimizer step: every so many steps, after the last, and before a signal ends the run.

    With ``save="best"`` also after a validation that was the best so far. The state is that of the end of a step,
    before the validation that may follow it: whoever goes on from there makes that validation first.

    Of several ranks all come to each checkpoint, since their random generators are in it, and the first one writes.
    All end at the same step, whichever was told to stop.
    """

    def __init__(
        self,
        record: Record | None,
        settings: TrainerSettings,
        checks: StartChecks,
        loader: WindowLoader,
        *,
        num_steps: int,
        interruption: Interruption,
        resumed: dict[str, Any] | None = None,
    ):
        """
        Args:
            record: None on every rank but the first.
            resumed: the checkpoint to go on from; None for a run from its beginning.
        """
        self._record = record
        self._settings = settings
        self._checks, self._loader = checks, loader
        self._num_steps = num_steps
        self._interruption = interruption
        self._resumed = resumed
        self._generators: dict[str, torch.Tensor] | None = None
        self._saved_step = None if resumed is None else resumed["step"]
        self._mode: Mode | None = settings.best_mode if settings.save == "best" else None

    def restore(self, trainer: pl.Trainer, module: PreferenceModule) -> None:
        """Put back all that does not belong to the optimizer, which is made when training begins.

        Raises:
            UserError: the checkpoint was made of another model, beside another reference, or on other data.
        """
        content = self._resumed
        if content is None:
            return
        device = trainer.strategy.root_device
        module.on_load_checkpoint(content)
        try:
            module.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            raise UserError(f"the checkpoint is of a model of another shape: {error}") from error
        if self._record is not None:
            self._record.recorder.load_state(content["recorder"], device)
        self._checks.load_state(content["start_checks"], device)
        self._loader.load_state_dict(content["loader"])
        _set_progress(trainer, content["step"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._interruption.hear()
        if self._resumed is None:
            return
        content, self._resumed = self._resumed, None
        for optimizer, state in zip(trainer.optimizers, content["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
        for config, state in zip(trainer.lr_scheduler_configs, content["lr_schedulers"], strict=True):
            config.scheduler.load_state_dict(state)
        if rank() < len(content["generators"]):  # of more ranks than there were, the new ones begin with their seeds
            self._generators = content["generators"][rank()]
        content.clear()  # others hold the dictionary, and in it another copy of the weights, as long as the run lasts

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._generators is not None:
            # Not earlier: whatever is drawn while training is set up must not move them.
            set_global_generators(self._generators)
            self._generators = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, every = trainer.global_step, self._settings.checkpoint_every
        told = self._told()
        if told or step == self._num_steps or (every is not None and step % every == 0):
            self._save(trainer, pl_module)
            told = told or self._told()
        if told:
            raise Stopped(told)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if told := self._told():
            self._save(trainer, pl_module)
            raise Stopped(told)

    def _told(self) -> signal.Signals | None:
        """The signal by which any rank was told to stop, the same on all."""
        received = [number for number in gather_over_ranks(self._interruption.received) if number is not None]
        return received[0] if received else None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step, mode = trainer.global_step, self._mode
        if mode is None or step == 0:
            return
        value, is_best = from_first_rank(self._judge(step, mode))
        if step != self._saved_step:
            if is_best:
                self._save(trainer, pl_module, value)
        elif self._record is not None:
            checkpoints = self._record.folder.checkpoints
            set_value(checkpoints, step, value)
            prune(checkpoints, step, self._settings.keep_last, mode)

    def _judge(self, step: int, mode: Mode) -> tuple[float, bool]:
        """What the last validation says by the metric that is compared, and whether nothing up to `step` was better."""
        record = self._record
        if record is None:
            return math.nan, False
        value = record.recorder.last_validation.get(self._settings.best_metric, math.nan)
        best = best_step(record.folder.checkpoints, step, mode)
        return value, best is None or (value < best[1] if mode == "min" else value > best[1])

    def load_best(self, trainer: pl.Trainer, module: PreferenceModule) -> tuple[int, float] | None:
        """Give the policy the weights of the best validated checkpoint: its step and value; None without a value.

        Raises:
            UserError: it is damaged.
        """
        assert self._mode is not None and self._record is not None
        checkpoints = self._record.folder.checkpoints
        best = best_step(checkpoints, self._num_steps, self._mode)
        if best is not None:
            content = read_kept(checkpoints, best[0]).content
            module.on_load_checkpoint(content)
            module.load_state_dict(content["state_dict"])
        return best

    def _save(self, trainer: pl.Trainer, module: PreferenceModule, value: float | None = None) -> None:
        step = trainer.global_step
        if self._settings.save == "none" or step == self._saved_step:
            return
        _refuse_non_finite(module, step)
        _refuse_different(module, step)
        generators = gather_over_ranks(global_generators())
        self._saved_step = step
        if self._record is None:
            return
        folder, recorder = self._record
        content: dict[str, Any] = {
            "format": FORMAT,
            "step": step,
            "num_ranks": num_ranks(),
            "state_dict": dict(module.state_dict()),
            "optimizer_states": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "lr_schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            "loader": self._loader.state_dict(),
            "recorder": recorder.state(),
            "start_checks": self._checks.state(),
            "generators": generators,
        }
        module.on_save_checkpoint(content)
        keep(folder.checkpoints, step, content, value=value)
        prune(folder.checkpoints, step, self._settings.keep_last, self._mode)


class RanksApartError(RuntimeError):
    """Ranks that make the same updates of the same weights hold different ones."""


def check_content(content: dict[str, Any]) -> None:
    """
    Raises:
        UserError: a checkpoint is of another version of dpo_lab, or of something else.
    """
    if content.get("format") != FORMAT:
        raise UserError(
            f"the checkpoint has format {content.get('format')}, and this version of dpo_lab reads {FORMAT}; "
            "fresh=true begins another attempt"
        )
    recorder = content.get("recorder")
    lacking = [key for key in CONTENT if key not in content]
    if lacking or not isinstance(recorder, dict) or not isinstance(recorder.get("position"), dict):
        what = ", ".join(lacking or ["recorder.position"])
        raise UserError(
            f"the checkpoint lacks {what}: it is damaged, or not of dpo_lab; fresh=true begins another attempt"
        )


def _refuse_non_finite(module: PreferenceModule, step: int) -> None:
    """A finite gradient times a large rate can still be too large a step; such weights replace no checkpoint."""
    tensors = [tensor for tensor in module.policy.parameters() if tensor.requires_grad]
    if not bool(torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all()):
        raise NonFiniteError(
            f"the weights after optimizer step {step} are not finite, and were not saved; the checkpoints before stay. "
            "Try a smaller optimizer.lr"
        )


def _refuse_different(module: PreferenceModule, step: int) -> None:
    """By one number of each rank: a sum that is made in the same order is the same where the weights are."""
    if num_ranks() == 1:
        return
    tensors = [tensor for tensor in module.policy.parameters() if tensor.requires_grad]
    sums = gather_over_ranks(float(torch.stack([tensor.detach().double().sum() for tensor in tensors]).sum()))
    if len(set(sums)) > 1:
        raise RanksApartError(
            f"after optimizer step {step} the ranks hold different weights, which were not saved. Their exchange "
            "should make that impossible: are the devices alike?"
        )


def _set_progress(trainer: pl.Trainer, step: int) -> None:
    """Have Lightning count optimizer steps, and the steps until a validation, from `step` on."""
    loop = trainer.fit_loop.epoch_loop
    done = loop.manual_optimization.optim_step_progress.total
    done.ready = done.completed = step
    loop.batch_progress.total.reset()
    loop.batch_progress.total.increment_by(step)
