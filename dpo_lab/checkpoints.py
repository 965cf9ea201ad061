"""Checkpoints of a run: when they are made, all that is in them, and how a later process goes on from one."""

import math
from typing import Any, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from dpo_lab.data.windows import WindowLoader
from dpo_lab.errors import UserError
from dpo_lab.interruption import Interruption
from dpo_lab.module import NonFiniteError, PreferenceModule
from dpo_lab.ranks import gather_over_ranks, num_ranks, rank
from dpo_lab.recorder import Recorder
from dpo_lab.run import RunFolder
from dpo_lab.run.kept import Mode, best_step, keep, prune, read_kept, set_value
from dpo_lab.seeds import global_generators, set_global_generators
from dpo_lab.start_checks import StartChecks
from dpo_lab.trainer import TrainerSettings

FORMAT = 1


@final
class Checkpoints(pl.Callback):
    """Saves at the end of an optimizer step: every so many steps, after the last, and before a signal ends the run.

    With ``save="best"`` also after a validation that was the best so far. The state is that of the end of a step,
    before the validation that may follow it: whoever goes on from there makes that validation first.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: TrainerSettings,
        recorder: Recorder,
        checks: StartChecks,
        loader: WindowLoader,
        *,
        num_steps: int,
        interruption: Interruption,
        resumed: dict[str, Any] | None = None,
    ):
        """`resumed` is the checkpoint to go on from; None for a run from its beginning."""
        self._folder = folder
        self._settings = settings
        self._recorder, self._checks, self._loader = recorder, checks, loader
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
        self._recorder.load_state(content["recorder"], device)
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
        self._generators = content["generators"][rank()]
        content.clear()  # others hold the dictionary, and in it another copy of the weights, as long as the run lasts

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._generators is not None:
            # Not earlier: whatever is drawn while training is set up must not move them.
            set_global_generators(self._generators)
            self._generators = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, every = trainer.global_step, self._settings.checkpoint_every
        is_told = self._interruption.received is not None
        if is_told or step == self._num_steps or (every is not None and step % every == 0):
            self._save(trainer, pl_module)
        self._interruption.stop_if_told()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._interruption.received is not None and trainer.state.fn == TrainerFn.FITTING:
            self._save(trainer, pl_module)
            self._interruption.stop_if_told()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step, mode = trainer.global_step, self._mode
        if mode is None or step == 0:
            return
        checkpoints = self._folder.checkpoints
        value = self._recorder.last_validation.get(self._settings.best_metric, math.nan)
        best = best_step(checkpoints, step, mode)
        if step == self._saved_step:
            set_value(checkpoints, step, value)
            prune(checkpoints, step, self._settings.keep_last, mode)
        elif best is None or (value < best[1] if mode == "min" else value > best[1]):
            self._save(trainer, pl_module, value)

    def load_best(self, trainer: pl.Trainer, module: PreferenceModule) -> tuple[int, float] | None:
        """Give the policy the weights of the best validated checkpoint: its step and value; None without a value.

        Raises:
            UserError: it is damaged.
        """
        assert self._mode is not None
        best = best_step(self._folder.checkpoints, self._num_steps, self._mode)
        if best is not None:
            content = read_kept(self._folder.checkpoints, best[0]).content
            module.on_load_checkpoint(content)
            module.load_state_dict(content["state_dict"])
        return best

    def _save(self, trainer: pl.Trainer, module: PreferenceModule, value: float | None = None) -> None:
        step = trainer.global_step
        if self._settings.save == "none" or step == self._saved_step:
            return
        checkpoints = self._folder.checkpoints
        _refuse_non_finite(module, step)
        content: dict[str, Any] = {
            "format": FORMAT,
            "step": step,
            "num_ranks": num_ranks(),
            "state_dict": dict(module.state_dict()),
            "optimizer_states": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "lr_schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            "loader": self._loader.state_dict(),
            "recorder": self._recorder.state(),
            "start_checks": self._checks.state(),
            "generators": gather_over_ranks(global_generators()),
        }
        module.on_save_checkpoint(content)
        keep(checkpoints, step, content, value=value)
        self._saved_step = step
        prune(checkpoints, step, self._settings.keep_last, self._mode)


def check_content(content: dict[str, Any]) -> None:
    """
    Raises:
        UserError: a checkpoint is of another version of dpo_lab, or of another number of processes.
    """
    if content.get("format") != FORMAT:
        raise UserError(
            f"the checkpoint has format {content.get('format')}, and this version of dpo_lab reads {FORMAT}; "
            "fresh=true begins another attempt"
        )
    if content["num_ranks"] != num_ranks():
        raise UserError(
            f"the checkpoint was made by {content['num_ranks']} processes, and here are {num_ranks()}; use as many"
        )


def _refuse_non_finite(module: PreferenceModule, step: int) -> None:
    """A finite gradient times a large rate can still be too large a step; such weights replace no checkpoint."""
    tensors = [tensor for tensor in module.policy.parameters() if tensor.requires_grad]
    if not bool(torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all()):
        raise NonFiniteError(
            f"the weights after optimizer step {step} are not finite, and were not saved; the checkpoints before stay. "
            "Try a smaller optimizer.lr"
        )


def _set_progress(trainer: pl.Trainer, step: int) -> None:
    """Have Lightning count optimizer steps, and the steps until a validation, from `step` on."""
    loop = trainer.fit_loop.epoch_loop
    done = loop.manual_optimization.optim_step_progress.total
    done.ready = done.completed = step
    loop.batch_progress.total.reset()
    loop.batch_progress.total.increment_by(step)
