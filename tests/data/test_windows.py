import math
from collections.abc import Iterable, Sequence
from itertools import chain, islice, repeat
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.view import View
from dpo_lab.data.windows import WindowLoader, token_bounds, window_bounds
from dpo_lab.types import Encoded, Window


def collate(groups: Sequence[Encoded]) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[*group.prompt, *ids] for group in groups for ids in group.responses])}


def make_loader(num_items: int = 10, **knobs: Any) -> WindowLoader:
    encoded = [Encoded((100 + n,), ((2 * n,), (2 * n + 1,))) for n in range(num_items)]
    dataset = EncodedDataset(encoded, [Judgement(((0, 1),))] * num_items)
    return WindowLoader(
        dataset, View(frozenset({"pairs"})), collate, **{"seed": 0, "shuffle": True, "global_batch_size": 4, **knobs}
    )


def numbers(windows: Iterable[Window]) -> list[list[int]]:
    """Which items each window holds, read off its token ids."""
    return [[n for batch in window for n in (batch.inputs["input_ids"][::2, 0] - 100).tolist()] for window in windows]


def test_an_epoch_has_every_item_once_and_a_ragged_end():
    loader = make_loader()
    seen = numbers(loader)
    assert [len(window) for window in seen] == [4, 4, 2]
    assert len(loader) == 3
    assert sorted(chain.from_iterable(seen)) == list(range(10))


def test_each_pass_is_the_next_epoch():
    loader, again = make_loader(), make_loader()
    first, second = numbers(loader), numbers(loader)
    assert first != second
    assert sorted(chain.from_iterable(second)) == list(range(10))
    assert [numbers(again), numbers(again)] == [first, second]


def test_micro_batches_hold_the_same_items_in_the_same_order():
    whole, split = make_loader(), make_loader(micro_batch_size=3)
    assert [[len(b.pairs) for b in window] for window in split] == [[3, 1], [3, 1], [2]]
    assert numbers(make_loader(micro_batch_size=3)) == numbers(whole)


def test_micro_batches_hold_at_most_so_many_tokens():
    """Each pair has a prompt of 1 and responses of 1 and 1, so 3 tokens: two fit into 8, one into 5, and one into 2."""
    sizes = {tokens: [len(b.pairs) for b in next(iter(make_loader(micro_batch_tokens=tokens)))] for tokens in (8, 5, 2)}
    assert sizes == {8: [2, 2], 5: [1, 1, 1, 1], 2: [1, 1, 1, 1]}
    assert numbers(make_loader(micro_batch_tokens=8)) == numbers(make_loader())
    both = make_loader(micro_batch_tokens=100, micro_batch_size=3)
    assert [[len(b.pairs) for b in window] for window in both] == [[3, 1], [3, 1], [2]]


def of_sizes(sizes: Sequence[int], **knobs: Any) -> WindowLoader:
    """Items of so many tokens: a prompt of one, a response of one, and one of the others."""
    encoded = [Encoded((100 + n,), ((n,), (n,) * (size - 2))) for n, size in enumerate(sizes)]
    dataset = EncodedDataset(encoded, [Judgement(((0, 1),))] * len(sizes))
    plain = {"seed": 0, "shuffle": True, "global_batch_size": 1000}
    return WindowLoader(dataset, View(frozenset({"pairs"})), _prompts, **{**plain, **knobs})


def _prompts(groups: Sequence[Encoded]) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[group.prompt[0]] for group in groups for _ in group.responses])}


def test_windows_by_tokens_by_hand():
    """8 tokens a step: 3 + 4, then 9 alone, then 3 + 3 (the next 5 would be 11), then 5 + 3; at most 2 items a step."""
    loader = of_sizes([3, 4, 9, 3, 3, 5, 3], shuffle=False, global_batch_tokens=8)
    assert numbers(loader) == [[0, 1], [2], [3, 4], [5, 6]]
    few = of_sizes([3] * 5, shuffle=False, global_batch_tokens=100, global_batch_size=2)
    assert numbers(few) == [[0, 1], [2, 3], [4]]


def test_batch_warmup_by_hand():
    """2, then 2 + 3 // 2 = 3, then 5 a step: 2 + 3 + 2 in the first epoch of 7, 5 + 2 in every later one."""
    loader = of_sizes([3] * 7, shuffle=False, global_batch_size=5, initial_batch_size=2, batch_warmup_steps=2)
    assert [numbers(loader) for _ in range(3)] == [[[0, 1], [2, 3, 4], [5, 6]], *[[[0, 1, 2, 3, 4], [5, 6]]] * 2]
    assert [loader.num_windows(num) for num in (1, 2, 3)] == [3, 5, 7]


def test_batch_warmup_may_last_for_epochs():
    """1 + 5 * step // 5 items: 1 + 2 in the first epoch of 3 items, 3 in the second; then 4, so that all 3 are one."""
    loader = of_sizes([3] * 3, shuffle=False, global_batch_size=6, initial_batch_size=1, batch_warmup_steps=5)
    assert [numbers(loader) for _ in range(4)] == [[[0], [1, 2]], [[0, 1, 2]], [[0, 1, 2]], [[0, 1, 2]]]


def test_batch_warmup_gives_each_rank_an_item():
    with pytest.raises(DataError, match=r"trainer\.initial_batch_size=1 gives not each of 2 ranks an item"):
        of_sizes([3] * 7, global_batch_size=5, initial_batch_size=1, batch_warmup_steps=2, num_ranks=2)


@given(
    sizes=st.lists(st.integers(3, 12), min_size=1, max_size=20),
    tokens=st.one_of(st.none(), st.integers(1, 40)),
    warmup=st.one_of(st.none(), st.tuples(st.integers(1, 8), st.integers(1, 9))),
    most=st.integers(1, 8),
    num_epochs=st.integers(1, 3),
    stop=st.integers(0, 60),
)
def test_windows_of_varying_size_lose_and_repeat_nothing(
    sizes: list[int], tokens: int | None, warmup: tuple[int, int] | None, most: int, num_epochs: int, stop: int
):
    """Whatever the epoch's order, and wherever a pass is stopped and gone on with; as large as all bounds allow."""
    knobs: dict[str, Any] = {"global_batch_tokens": tokens, "global_batch_size": most}
    initial, num_steps = (most, 0) if warmup is None else (min(warmup[0], most), warmup[1])
    if warmup is not None:
        knobs |= {"initial_batch_size": initial, "batch_warmup_steps": num_steps}
    most_at = chain((initial + (most - initial) * step // num_steps for step in range(num_steps)), repeat(most))
    most_tokens = math.inf if tokens is None else tokens
    loader = of_sizes(sizes, **knobs)
    epochs = []
    for _ in range(num_epochs):
        num_windows = len(loader)
        epochs.append(numbers(loader))
        assert len(epochs[-1]) == num_windows
    assert loader.num_windows(num_epochs) == sum(map(len, epochs))
    for windows in epochs:
        assert sorted(chain.from_iterable(windows)) == list(range(len(sizes)))
        for window, after in zip(windows, [*windows[1:], None], strict=True):
            total, most_items = sum(sizes[item] for item in window), next(most_at)
            assert len(window) <= most_items and (total <= most_tokens or len(window) == 1)
            assert after is None or len(window) == most_items or total + sizes[after[0]] > most_tokens
    whole = list(chain.from_iterable(epochs))
    first, second = of_sizes(sizes, **knobs), of_sizes(sizes, **knobs)
    stop = min(stop, len(whole) - 1)
    before = numbers(islice(chain.from_iterable(first for _ in range(num_epochs)), stop))
    second.load_state_dict(first.state_dict())
    after_it = numbers(chain.from_iterable(second for _ in range(num_epochs)))
    assert before + after_it[: len(whole) - stop] == whole


@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=20), tokens=st.integers(1, 20), ranks=st.integers(1, 3))
def test_each_rank_has_an_item_of_every_window_by_tokens(sizes: list[int], tokens: int, ranks: int):
    bounds = token_bounds(sizes, tokens, lambda number: 5, ranks)
    assert [stop for _, stop in bounds[:-1]] == [start for start, _ in bounds[1:]]
    assert (bounds[0][0], bounds[-1][1]) == (0, len(sizes))
    assert all(stop - start >= ranks for start, stop in bounds)


def test_a_prompt_and_a_response_count_once_for_the_pairs_that_share_them():
    """Three responses of one token behind one prompt of two: 5 tokens for all three pairs."""
    dataset = EncodedDataset([Encoded((1, 2), ((3,), (4,), (5,)))], [Judgement(((0, 1), (0, 2), (1, 2)))])
    items = dataset.items(View(frozenset({"pairs"})))
    assert [dataset.num_tokens(items[:number]) for number in (1, 2, 3)] == [4, 5, 5]


def test_unshuffled_passes_are_equal():
    loader = make_loader(shuffle=False)
    assert numbers(loader) == numbers(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_pass_goes_on_where_the_last_one_stopped():
    """Lightning may take one window for an epoch, when it resumes at the end of one."""
    loader = make_loader()
    seen = numbers(islice(loader, 1)) + numbers(loader) + numbers(loader)
    again = make_loader()
    assert seen == numbers(again) + numbers(again)


def test_validation_starts_over():
    """As after Lightning's two sanity batches."""
    loader = make_loader(shuffle=False, is_continued=False)
    next(iter(loader))
    assert numbers(loader) == numbers(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("stop", range(8))
@pytest.mark.parametrize("is_loaded_after_iter", [False, True])
def test_resume_goes_on_exactly(stop: int, is_loaded_after_iter: bool):
    """Two epochs and a bit of three windows each, stopped after `stop` windows."""
    whole = make_loader()
    expected = numbers([window for _ in range(5) for window in whole])
    first, resumed = make_loader(), make_loader()
    passes, rest = divmod(stop, 3)
    for _ in range(passes):
        numbers(first)
    numbers(islice(first, rest))
    state = first.state_dict()
    if is_loaded_after_iter:  # the order of Lightning
        windows = iter(resumed)
        resumed.load_state_dict(state)
        seen = numbers(windows)
    else:
        resumed.load_state_dict(state)
        seen = numbers(resumed)
    seen += numbers(resumed)
    assert seen == expected[stop : stop + len(seen)]
    assert len(seen) >= 4


def test_state_counts_what_was_yielded():
    loader = make_loader()
    windows = iter(loader)
    assert loader.state_dict() == {"epoch": 0, "position": 0}
    next(windows)
    assert loader.state_dict() == {"epoch": 0, "position": 1}
    numbers(windows)
    assert loader.state_dict() == {"epoch": 0, "position": 3}
    next(iter(loader))
    assert loader.state_dict() == {"epoch": 1, "position": 1}


def test_state_of_another_length_is_refused():
    with pytest.raises(DataError, match="other data or another batch size"):
        make_loader(num_items=4).load_state_dict({"epoch": 0, "position": 3})


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_ranks_share_each_window_without_loss(num_items: int, global_batch_size: int, num_ranks: int):
    knobs: dict[str, Any] = {"global_batch_size": global_batch_size, "num_ranks": num_ranks}
    if min(num_items, global_batch_size) < num_ranks:
        with pytest.raises(DataError, match="each of"):
            make_loader(num_items, **knobs)
        return
    shares = [numbers(make_loader(num_items, rank=rank, **knobs)) for rank in range(num_ranks)]
    assert len({len(share) for share in shares}) == 1
    windows = [list(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)]
    assert all(part for share in shares for part in share)
    assert sorted(chain.from_iterable(windows)) == list(range(num_items))
    if window_bounds(num_items, global_batch_size, num_ranks) == window_bounds(num_items, global_batch_size, 1):
        assert windows == numbers(make_loader(num_items, global_batch_size=global_batch_size))


def test_tail_smaller_than_the_ranks_joins_the_window_before():
    """9 items by 4 over 2 ranks: 4, then 5 = 4 + 1."""
    assert window_bounds(9, 4, 2) == [(0, 4), (4, 9)]
    assert window_bounds(9, 4, 1) == [(0, 4), (4, 8), (8, 9)]


def test_no_item_and_no_micro_batch():
    with pytest.raises(DataError, match="0 items"):
        make_loader(num_items=0)
    with pytest.raises(DataError, match="micro_batch_size=0"):
        make_loader(micro_batch_size=0)


def test_whole_windows_are_shared_out_and_all_ranks_have_as_many():
    """Three windows for two ranks: 0 and 2, 1 and an empty one; a loader in the middle of its epoch does not matter."""
    loader = make_loader(shuffle=False, is_continued=False)
    next(iter(loader))
    shares = [loader.whole_windows(rank, 2) for rank in range(2)]
    assert [len(share) for share in shares] == [2, 2]
    assert [numbers(share) for share in shares] == [[[0, 1, 2, 3], [8, 9]], [[4, 5, 6, 7], []]]


def test_the_windows_of_all_ranks_are_those_of_one():
    """Nine items, the last of which joins the window before: so it is for two ranks, also where they are seen whole."""
    loader = make_loader(num_items=9, shuffle=False, num_ranks=2, rank=1)
    assert numbers(loader) == [[2, 3], [6, 7, 8]]
    assert numbers(loader.of_all_ranks()) == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
