"""The rows that are made ready are those that training and validation ask for, and no others."""

from typing import Any

import numpy as np
import pytest

from dpo_lab.assemble.reference_rows import rows_of_run
from dpo_lab.data.batch import response_key
from dpo_lab.data.view import View
from dpo_lab.data.windows import WindowLoader
from tests.small import PAIRS, small_dataset, small_policy

KTO = View(frozenset({"labels", "drift"}), max_length=128)
LISTS = View(frozenset({"ranking"}))

Keys = set[tuple[int, ...]]


def loader(view: View, num_pairs: int, *, seed: int = 0, is_continued: bool = True) -> WindowLoader:
    policy = small_policy()
    return WindowLoader(
        small_dataset(policy, num_pairs),
        view,
        policy.collate,
        seed=seed,
        shuffle=True,
        global_batch_size=4,
        micro_batch_size=3,
        is_continued=is_continued,
    )


def keys_of_run(train: WindowLoader, num_steps: int, validation: WindowLoader | None = None, **settings: Any) -> Keys:
    found: Keys = set()
    for groups, keys in rows_of_run(train, [] if validation is None else [validation], num_steps, **settings):
        expected = [response_key(group.prompt, response) for group in groups for response in group.responses]
        assert np.array_equal(keys, np.array(expected)), "keys stand beside their tokens"
        found |= set(map(tuple, keys.tolist()))
    return found


def keys_met(loader: WindowLoader, num_steps: int) -> Keys:
    met: Keys = set()
    for step in range(num_steps):
        if step % len(loader) == 0:
            windows = iter(loader)
        met |= {tuple(key) for batch in next(windows) for key in batch.key.tolist()}
    return met


@pytest.mark.parametrize("view", [PAIRS, KTO, LISTS], ids=["pairs", "borrowed responses", "lists"])
@pytest.mark.parametrize("num_steps", [4, 9])
def test_all_that_is_met(view: View, num_steps: int):
    """20 pairs are 5 windows of pairs, 10 of labels; 9 steps go into the second epoch of the first."""
    ready = keys_of_run(loader(view, 20), num_steps, loader(view, 5, is_continued=False))
    met = keys_met(loader(view, 20), num_steps) | keys_met(loader(view, 5, is_continued=False), 2)
    assert met <= ready
    if view is KTO:
        validation = loader(view, 5, is_continued=False)
        assert ready == keys_met(loader(view, 20), num_steps) | keys_met(validation, len(validation))


def test_a_short_run_on_much_data_computes_what_it_sees():
    """80 pairs are 20 windows: one step is 5 % of them, less than the share from which on all are computed."""
    assert keys_of_run(loader(PAIRS, 80), 1) == keys_met(loader(PAIRS, 80), 1)
    everything = keys_met(loader(PAIRS, 80), 20)
    assert keys_of_run(loader(PAIRS, 80), 2) == everything
    assert keys_of_run(loader(PAIRS, 80), 1, is_whole=True) == everything
    assert keys_of_run(loader(PAIRS, 80, seed=1), 2) == everything


def test_the_loader_of_the_run_does_not_move():
    train = loader(KTO, 20)
    first = [batch.key.tolist() for batch in next(iter(loader(KTO, 20)))]
    keys_of_run(train, 3)
    assert train.state_dict() == {"epoch": 0, "position": 0}
    assert [batch.key.tolist() for batch in next(iter(train))] == first
    assert "input_ids" in next(iter(train))[0].inputs


def test_rows_are_those_of_all_ranks():
    """Borrowed responses depend on whole windows, so the first rank makes them ready for the others as well."""
    one, two = loader(KTO, 12), loader(KTO, 12)
    two.rank, two.num_ranks = 1, 2
    assert keys_of_run(two, len(two)) == keys_of_run(one, len(one))
