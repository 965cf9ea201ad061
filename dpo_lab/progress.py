"""The progress of a run: a bar on a terminal, a line now and then where there is none."""

import sys
import time
from typing import Any, final

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dpo_lab.metrics import curves
from dpo_lab.module import PreferenceModule

SHOWN = (("loss", "loss"), ("rewards/accuracies", "accuracy"), ("rewards/margins", "margin"))
LINES = 10
"""Lines printed over a whole run where the output is no terminal."""

DRAW_EVERY_SECONDS = 0.5
"""Drawing takes milliseconds, and reading a number waits for the device."""


@final
class ProgressReport(pl.Callback):
    """Loss, accuracy, margin, items a second and time left, of the steps since it was last drawn."""

    def __init__(self, num_steps: int, *, title: str, items: str):
        """`items` names what is counted: "pairs" or "responses"."""
        self._num_steps = num_steps
        self._title = title
        self._items = items
        self._is_terminal = sys.stderr.isatty()
        self._progress: Progress | None = None
        self._num_items = 0
        self._started = self._drawn = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started = self._drawn = time.monotonic()
        self._first_step = trainer.global_step
        if self._is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self._progress.start()
            self._task = self._progress.add_task(
                self._title, total=self._num_steps, completed=trainer.global_step, numbers=""
            )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._num_items += pl_module.last_num_items
        step, now = trainer.global_step, time.monotonic()
        is_last = step >= self._num_steps
        if self._progress is not None:
            if is_last or now - self._drawn > DRAW_EVERY_SECONDS:
                self._drawn = now
                self._progress.update(self._task, completed=step, numbers=self._numbers(pl_module, now), refresh=True)
        elif is_last or step % max(1, self._num_steps // LINES) == 0:
            left = (now - self._started) / (step - self._first_step) * (self._num_steps - step)
            print(
                f"{self._title} {step}/{self._num_steps}  {self._numbers(pl_module, now)}  {left:.0f} s left",
                file=sys.stderr,
            )

    def _numbers(self, module: PreferenceModule, now: float) -> str:
        row = curves(module.objective, module.last_tally, prefix="train")
        shown = [f"{label} {row[f'train/{name}']:.3f}" for name, label in SHOWN if f"train/{name}" in row]
        rate = self._num_items / max(1e-9, now - self._started)
        return "  ".join([*shown, f"{rate:.0f} {self._items}/s"])

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
