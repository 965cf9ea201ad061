import pytest
import torch

from dpo_lab.seeds import SOURCES, derive_seeds, row_generators


def test_the_same_on_every_machine_and_in_every_version():
    """These numbers decide what a seed means: were they to change, no old run could be repeated."""
    expected = {"order": 3_734_182_379, "init": 3_114_468_849, "dropout": 258_021_635, "sampling": 2_651_473_463}
    assert derive_seeds(0, {}) == expected


def test_each_source_and_each_seed_has_its_own():
    seeds = [value for seed in range(50) for value in derive_seeds(seed, {}).values()]
    assert len(set(seeds)) == 50 * len(SOURCES)
    assert all(0 <= value < 2**32 for value in seeds)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("given", [0, 7])
def test_one_that_is_given_moves_no_other(source: str, given: int):
    """0 is a seed, not a blank."""
    derived = derive_seeds(3, dict.fromkeys(SOURCES))
    assert derive_seeds(3, {source: given}) == derived | {source: given}


def test_a_row_draws_by_seed_step_and_key_alone():
    def draw(seed: int, step: int, keys: list[list[int]]) -> list[float]:
        return [torch.rand((), generator=generator).item() for generator in row_generators(seed, step, keys)]

    first = draw(0, 0, [[1, 2], [3, 4]])
    assert draw(0, 0, [[3, 4], [1, 2]]) == first[::-1]
    assert len({*first, *draw(1, 0, [[1, 2]]), *draw(0, 1, [[1, 2]]), *draw(0, 0, [[2, 1]])}) == 5
