"""Checkpoints of a run: everything that going on exactly where it stopped needs, and no weights that do not move."""

from typing import Any, final

import pytorch_lightning as pl

from dpo_lab.run import RunFolder
from dpo_lab.run.checkpoint import checkpoint_path, prune
from dpo_lab.seeds import global_generators


@final
class Checkpoints(pl.Callback):
    """Saves every `every` optimizer steps and after the last, and keeps the newest `keep_last`.

    Lightning puts weights, optimizer, schedule and the loader's position into the file, the module what losses and
    reference hold; the generators are added here.
    """

    def __init__(self, folder: RunFolder, *, every: int | None, keep_last: int, num_steps: int):
        self._folder = folder
        self._every = every
        self._keep_last = keep_last
        self._num_steps = num_steps

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == self._num_steps or (self._every is not None and step % self._every == 0):
            trainer.save_checkpoint(checkpoint_path(self._folder.checkpoints, step))
            prune(self._folder.checkpoints, self._keep_last)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["generators"] = global_generators()
