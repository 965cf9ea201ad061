"""Writes what happens, step by step, into the run folder and whatever mirrors it."""

import resource
import time
from collections.abc import Callable, Mapping
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor

from dpo_lab.logger.logger import Logger
from dpo_lab.metrics import Tally, curves
from dpo_lab.run import RunFolder, hex_key
from dpo_lab.run.predictions import SCHEMA
from dpo_lab.start_checks import StartChecks
from dpo_lab.types import Window

ROLES = {1: "chosen", 0: "rejected", -1: "borrowed"}


@final
class Recorder(pl.Callback):
    """One row a logged step. Steps between two rows are in the later one, as sums and counts; row 1 is step 1 alone.

    A row waits until the next step begins, so that a validation or samples taken after the same update join it.
    """

    def __init__(
        self,
        folder: RunFolder,
        logger: Logger,
        checks: StartChecks,
        *,
        num_steps: int,
        items_per_epoch: int,
        unit: str = "pairs",
        measure: Callable[[str], Mapping[str, float]] | None = None,
    ):
        """
        Args:
            unit: what an item is called, in the plural.
            measure: gives what else is measured of "validation" and "test", by name; None: nothing.
        """
        self._measure = measure
        self._unit = unit
        self._folder = folder
        self._logger = logger
        self._checks = checks
        self._num_steps = num_steps
        self._items_per_epoch = items_per_epoch
        self._tally = Tally()
        self._num_items = 0
        self._waiting: dict[str, float] = {}
        self.last_row: dict[str, float] = {}
        self._num_checks_written = 0
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self.validated_step: int | None = None
        self.last_validation: dict[str, float] = {}
        self.tested_step: int | None = None
        self._held_out = _HeldOut()

    def state(self) -> dict[str, Any]:
        """All that a later process needs to write on as if it were this one; rows so far are on disk afterwards."""
        return {
            "position": self._folder.position(),
            "tally": self._tally.state(),
            "num_items": self._num_items,
            "waiting": self._waiting,
            "num_checks_written": self._num_checks_written,
            "validated_step": self.validated_step,
            "seconds": self._seconds(),
        }

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave, in a folder that was put back to its `position`."""
        self._tally.load_state(state["tally"], device)
        self._num_items = state["num_items"]
        self._waiting = dict(state["waiting"])
        self._num_checks_written = state["num_checks_written"]
        self.validated_step = state["validated_step"]
        self._seconds_before = state["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Window, batch_idx: int) -> None:
        self.flush()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        step = trainer.global_step
        self._tally.merge(pl_module.last_tally)
        self._num_items += pl_module.last_num_items
        if pl_module.last_rows:
            self._folder.training_pairs.add(prediction_columns(step - 1, pl_module.last_rows, split="train"))
        if self._logger.wants(step) or step == self._num_steps:
            self.add(step, curves(pl_module.objective, self._tally, prefix="train"))
            self._tally = Tally()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._held_out = _HeldOut()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._held_out.add(pl_module.last_tally, outputs, pl_module.last_num_items)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step = self.validated_step = trainer.global_step
        self.last_validation = curves(pl_module.objective, self._held_out.tally, prefix="val")
        self.last_validation |= self._measured("validation", "val")
        self.add(step, self.last_validation | {f"val/num_{self._unit}": self._held_out.num_items})
        self._keep_predictions(step, "val")

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._held_out = _HeldOut()

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._held_out.add(pl_module.last_tally, outputs, pl_module.last_num_items)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Into the last row, with the step whose weights were tested: with trainer.save=best an earlier one."""
        last = trainer.global_step
        step = last if self.tested_step is None else self.tested_step
        row = curves(pl_module.objective, self._held_out.tally, prefix="test") | self._measured("test", "test")
        self.add(last, row | {f"test/num_{self._unit}": self._held_out.num_items, "test/step": step})
        self._keep_predictions(step, "test")

    def _measured(self, name: str, prefix: str) -> dict[str, float]:
        return {} if self._measure is None else {f"{prefix}/{key}": value for key, value in self._measure(name).items()}

    def _keep_predictions(self, step: int, split: str) -> None:
        self._folder.append_predictions(prediction_columns(step, self._held_out.rows, split=split))
        self._held_out = _HeldOut()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Put `values` into the row of `step`, which is written when the next step begins."""
        if not values:
            return
        if self._waiting and self._waiting["step"] != step:
            self.flush()
        new_checks = dict(list(self._checks.results.items())[self._num_checks_written :])
        self._num_checks_written = len(self._checks.results)
        clock = {
            "step": step,
            "epoch": self._num_items / self._items_per_epoch,
            "examples_seen": self._num_items,
        }
        self._waiting = {**self._waiting, **clock, **values, **new_checks}

    def flush(self) -> None:
        """Write the row that waits."""
        if not self._waiting:
            return
        row, self._waiting = self._waiting, {}
        self.last_row = row
        step = int(row["step"])
        self._folder.metrics.append(row)
        self._folder.timing.append(self._timing(step))
        self._logger.metrics(step, row)

    def _seconds(self) -> float:
        """Of training, over all the processes that it took."""
        return self._seconds_before + time.monotonic() - self._started

    def _timing(self, step: int) -> dict[str, float]:
        seconds = self._seconds()
        row = {"step": step, "seconds": seconds, "items_per_second": self._num_items / max(seconds, 1e-9)}
        row["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if torch.cuda.is_available():
            row["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated()
        return row

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._folder.flush()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.flush()


class _HeldOut:
    """What is gathered while validating or testing."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.rows: list[dict[str, Tensor]] = []
        self.num_items = 0

    def add(self, tally: Tally, rows: list[dict[str, Tensor]], num_items: int) -> None:
        self.tally.merge(tally)
        self.rows.extend(rows)
        self.num_items += num_items


def prediction_columns(step: int, batches: list[dict[str, Tensor]], *, split: str = "val") -> dict[str, list[Any]]:
    """Columns of predictions.parquet for one evaluation; groups are numbered through over its batches."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names if name not in ("step", "split")}
    num_groups = 0
    for batch in batches:
        rows = {name: values.tolist() for name, values in batch.items()}
        num_rows = len(rows["group"])
        columns["key"] += [hex_key(high, low) for high, low in rows["key"]]
        columns["prompt"] += (
            [hex_key(high, low) for high, low in rows["prompt"]] if "prompt" in rows else [None] * num_rows
        )
        columns["group"] += [group + num_groups for group in rows["group"]]
        columns["role"] += [ROLES[role] for role in rows["role"]]
        columns["length"] += [int(length) for length in rows["length"]]
        columns["policy_log_prob"] += rows["policy_log_prob"]
        for name in ("reference_log_prob", "reward"):
            columns[name] += rows.get(name, [None] * num_rows)
        num_groups += max(rows["group"]) + 1
    num_rows = len(columns["key"])
    return {"step": [step] * num_rows, "split": [split] * num_rows, **columns}
