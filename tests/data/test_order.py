from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.order import epoch_order


@given(st.integers(0, 2**70), st.integers(0, 1000), st.integers(0, 50))
def test_permutation_and_pure(seed: int, epoch: int, num_items: int):
    order = epoch_order(seed, epoch, num_items, shuffle=True)
    assert sorted(order) == list(range(num_items))
    assert order == epoch_order(seed, epoch, num_items, shuffle=True)


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [tuple(epoch_order(seed, epoch, 50, shuffle=True)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_without_shuffle_the_order_of_the_file():
    assert epoch_order(3, 4, 5, shuffle=False) == [0, 1, 2, 3, 4]
