"""What each stream of random numbers gave, as short hashes in run.json: proof of what another seed has changed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, final

import pytorch_lightning as pl
import torch

from dpo_lab.run import RunFolder
from dpo_lab.samples import read_samples
from dpo_lab.seeds import global_generators, row_generators
from dpo_lab.types import Window

NUM_WINDOWS = 4
"""Optimizer steps whose items are in the record."""

DIGITS = 16


@final
class StreamRecord(pl.Callback):
    """Keeps ``streams`` of run.json while the first steps are made; of several ranks it sees the first one's share.

    * ``order``: of each of the first windows, a hash of the keys of its responses as they came;
    * ``windows``: the same, of the keys sorted: equal where other orders put the same items into a window;
    * ``dropout``: a hash of the state that the first step found torch's global generators in, where that step drew from
      them; and of what the random subsets of a loss begin with, where it has any. Null where nothing was drawn.
    """

    def __init__(self, folder: RunFolder, *, seed: int, draws_subsets: bool):
        """
        Args:
            seed: of dropout.
            draws_subsets: whether a term of the objective is given a generator for each row.
        """
        self._folder = folder
        self._seed = seed
        self._draws_subsets = draws_subsets
        self._before = ""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Window, batch_idx: int) -> None:
        step = trainer.global_step  # of those that are done
        if step >= NUM_WINDOWS:
            return
        keys = [key for micro_batch in batch for key in micro_batch.key.tolist()]
        order, windows = (list(_found(self._folder).get(name) or [])[:step] for name in ("order", "windows"))
        _keep(self._folder, order=[*order, digest(keys)], windows=[*windows, digest(sorted(keys))])
        if step == 0:
            self._before = _digest_of_generators()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        if trainer.global_step != 1:
            return
        drawn = [self._before] if _digest_of_generators() != self._before else []
        if self._draws_subsets:
            (generator,) = row_generators(self._seed, 0, [(0, 0)])
            drawn.append(digest(torch.rand(4, generator=generator).tolist()))
        _keep(self._folder, dropout=digest(drawn) if drawn else None)


def keep_weights(folder: RunFolder, weights: Mapping[str, str]) -> None:
    """Put ``init`` into ``streams`` of run.json: a hash of the weights that are trained, before the first update.

    Args:
        weights: a hash of each.
    """
    _keep(folder, init=digest(sorted(weights.items())))


def keep_samples(folder: RunFolder) -> None:
    """Put ``sampling`` into ``streams`` of run.json: a hash of the samples before the first update; null without."""
    drawn = [[sample.prompt, sample.response] for sample in read_samples(folder.path / "samples.jsonl", step=0)]
    _keep(folder, sampling=digest(drawn) if drawn else None)


def digest(value: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:DIGITS]


def _found(folder: RunFolder) -> Mapping[str, Any]:
    return folder.info.get("streams") or {}


def _keep(folder: RunFolder, **found: Any) -> None:
    folder.update(streams={**_found(folder), **found})


def _digest_of_generators() -> str:
    return digest(
        [[name, hashlib.sha256(state.numpy().tobytes()).hexdigest()] for name, state in global_generators().items()]
    )
