"""The rows that a run will ask its reference for, and their log-probs made ready before the first step."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat

import pytorch_lightning as pl
from torch import Tensor

from dpo_lab.assemble.experiment import Experiment
from dpo_lab.data.windows import WindowLoader
from dpo_lab.reference.cache_use import CacheUse, KeyedGroups
from dpo_lab.reference.cached import CachedReference
from dpo_lab.types import Encoded, PreferenceBatch

CHUNK_ITEMS = 256

SHARE = 0.1
"""A run that sees less than this of its training data computes the rows that it sees, and not those of all the data:
the first run would otherwise pay much for rows that no run may ask for."""


def prepare_reference(experiment: Experiment, trainer: pl.Trainer, say: Callable[[str], None]) -> CacheUse | None:
    """Have every row that the run asks its reference for on disk; None where the reference keeps none.

    Raises:
        CacheMismatchError: a row that was computed again differs.
        MissingRowsError: a row is missing and the cache is required.
    """
    reference = experiment.reference
    if not isinstance(reference, CachedReference):
        return None
    if "sequential_kl" in experiment.objective.needs:
        say("reference: this loss needs whole distributions, which are not kept; the cache is not used")
        return None
    reference.to(trainer.strategy.root_device)
    with trainer.precision_plugin.val_step_context():
        use = reference.prepare(
            rows_of_run(experiment.train, experiment.held_out, experiment.num_steps),
            is_checked_later=experiment.reference_is_policy and experiment.dropout == 0,
            seed=experiment.seeds["sampling"],
            say=say,
        )
    say(use.line())
    return use


def rows_of_run(
    train: WindowLoader, held_out: Sequence[WindowLoader], num_steps: int, *, is_whole: bool = False
) -> Iterator[KeyedGroups]:
    """Prompts with the responses that training and what is held out score, and their keys; the same row may come twice.

    With `is_whole` also what the run will not come to. What is borrowed depends on the windows of the run, so of a
    loss with borrowed responses it is always the rows of those.
    """
    # What an item borrows depends on its window.
    if "drift" in train.view.wanted or (num_steps < SHARE * len(train) and not is_whole):
        yield from _rows_of_windows(train, num_steps)
    else:
        yield from _rows_of_items(train)
    yield from rows_of_loaders(held_out)


def rows_of_loaders(loaders: Sequence[WindowLoader]) -> Iterator[KeyedGroups]:
    """As `rows_of_run` gives them, of every window of the first epoch of each."""
    for loader in loaders:
        yield from _rows_of_windows(loader, len(loader))


def _rows_of_windows(loader: WindowLoader, num_windows: int) -> Iterator[KeyedGroups]:
    """As `loader` makes them from its beginning, over as many epochs as it takes, of all ranks."""
    laid_out: list[Sequence[Encoded]] = []
    double = loader.of_all_ranks()
    double.collate = lambda groups: _keep(groups, laid_out)
    for window in islice(chain.from_iterable(repeat(double)), num_windows):
        for batch in window:
            yield _keyed(laid_out, batch)


def _rows_of_items(loader: WindowLoader) -> Iterator[KeyedGroups]:
    """In the order of the data."""
    laid_out: list[Sequence[Encoded]] = []
    for start in range(0, len(loader.items), CHUNK_ITEMS):
        items = loader.items[start : start + CHUNK_ITEMS]
        batch = loader.dataset.collate_items(items, lambda groups: _keep(groups, laid_out), loader.view)
        yield _keyed(laid_out, batch)


def _keep(groups: Sequence[Encoded], laid_out: list[Sequence[Encoded]]) -> dict[str, Tensor]:
    """Takes the place of a policy's `collate`: the rows of a batch in its own order, without tensors."""
    laid_out.append(groups)
    return {}


def _keyed(laid_out: list[Sequence[Encoded]], batch: PreferenceBatch) -> KeyedGroups:
    return laid_out.pop(0), batch.key.numpy()
