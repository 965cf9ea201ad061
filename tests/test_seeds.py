import pytest

from dpo_lab.seeds import SOURCES, derive_seeds


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
