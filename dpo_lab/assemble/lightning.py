"""A Lightning trainer that does one thing: call the module's step on every window."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch

from dpo_lab.trainer import TrainerSettings

NEVER = 2**62  # optimizer steps between validations

QUIET = (
    ".*does not have many workers.*",  # windows are collated in memory
    ".*LeafSpec.*is deprecated.*",  # Lightning's use of torch
    ".*The number of training batches.*smaller than the logging interval.*",  # Lightning logs nothing here
    ".*defined a `validation_step` but have no `val_dataloader`.*",  # it is called before and after instead
    ".*Trainer already configured with model summary.*",
)


def make_trainer(
    settings: TrainerSettings, *, num_steps: int, callbacks: list[pl.Callback], validate_every: int | None
) -> pl.Trainer:
    """A trainer without loggers, bars, checkpoints or samplers of its own: each has its owner here."""
    from dpo_lab.run.checkpoint import AtomicCheckpointIO

    is_gpu = settings.accelerator == "gpu"
    if is_gpu:  # cuBLAS repeats its sums only with a fixed workspace
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision=settings.precision,
        max_steps=num_steps,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        val_check_interval=NEVER if validate_every is None else validate_every,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        # Not "warn" where it need not be: attention's way back repeats its sums under True alone.
        deterministic=True if settings.deterministic else "warn",
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
    )


@contextmanager
def computing(num_threads: int | None, num_processes: int = 1) -> Iterator[None]:
    """Quiet third-party noise and set the number of threads for the block; both are put back after it.

    None leaves the number to the library, of which each of several processes gets its part.
    """
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # typed as the module that it replaces
    fills = memory.fill_uninitialized_memory
    with warnings.catch_warnings():
        for message in QUIET:
            warnings.filterwarnings("ignore", message=message)
        # Else every new tensor is filled before it is written to: a search for bugs, at 8 % of a step.
        memory.fill_uninitialized_memory = False
        if num_threads is None and num_processes > 1:
            num_threads = max(1, before // num_processes)
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            memory.fill_uninitialized_memory = fills
            torch.use_deterministic_algorithms(deterministic)
