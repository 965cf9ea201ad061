"""The loader: one element is everything one optimizer step sees."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import NamedTuple, final

from dpo_lab.data.batch import Collate, Item
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.errors import DataError
from dpo_lab.data.order import epoch_order
from dpo_lab.data.view import View
from dpo_lab.types import Window


class Warmup(NamedTuple):
    """Items of the first step of a run, and after how many steps they are as many as they will be."""

    initial: int
    num_steps: int

    def size_at(self, step: int, full: int) -> int:
        """Items of step `step`, counted from 0, on the way to `full`, rounded down.

        >>> [Warmup(2, 3).size_at(step, 8) for step in range(5)]
        [2, 4, 6, 8, 8]
        """
        if step >= self.num_steps:
            return full
        return self.initial + (full - self.initial) * step // self.num_steps


class WindowLoader:
    """Windows of `global_batch_size` items, in an order that is a pure function of (seed, epoch).

    With `global_batch_tokens` a window ends before that where its tokens are as many. With `initial_batch_size` the
    first windows of the run are smaller. How many windows an epoch has then depends on the epoch.

    One pass of ``for`` ends with an epoch. The last window of an epoch is smaller where the items do not divide;
    none is dropped. A pass goes on where the one before stopped, be it in another process (`state_dict`): so no
    window is lost or repeated, whatever a trainer takes for an epoch. With `is_continued` off every pass is the
    whole of epoch 0, as validation wants it.
    """

    def __init__(
        self,
        dataset: EncodedDataset,
        view: View,
        collate: Collate,
        *,
        seed: int,
        shuffle: bool,
        global_batch_size: int,
        global_batch_tokens: int | None = None,
        initial_batch_size: int | None = None,
        batch_warmup_steps: int | None = None,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        is_continued: bool = True,
        rank: int = 0,
        num_ranks: int = 1,
    ):
        """
        Args:
            view: what an item is, and what is read off the data for it.
            global_batch_size: items an optimizer step, over all ranks.
            global_batch_tokens: tokens an optimizer step, over all ranks: of each item its prompt once and its
                responses. An item with more than that is a step of its own. None: any number.
            initial_batch_size: items of the first step; from there they rise evenly, and are `global_batch_size` after
                `batch_warmup_steps` steps. None: no warm-up.
            batch_warmup_steps: 1 or more with `initial_batch_size`, else None.
            micro_batch_size: items this rank computes at a time; None: its whole share of the window.
            micro_batch_tokens: tokens it computes at a time, each prompt counted once; an item with more than that is
                computed alone. None: any number.
            is_continued: whether a pass goes on where the last one stopped, or starts over.
            rank: which share of each window is yielded, in [0, num_ranks).

        Raises:
            DataError: if there is no item, or fewer items a window than ranks.
        """
        if micro_batch_size is not None and micro_batch_size < 1:
            raise DataError(f"trainer.micro_batch_size={micro_batch_size} is not 1 or more.")
        self.dataset, self.view, self.collate = dataset, view, collate
        self.items = dataset.items(view)
        self.seed, self.shuffle = seed, shuffle
        self.global_batch_size, self.global_batch_tokens = global_batch_size, global_batch_tokens
        self.micro_batch_size, self.micro_batch_tokens = micro_batch_size, micro_batch_tokens
        self.rank, self.num_ranks = rank, num_ranks
        self._warmup = Warmup(initial_batch_size or global_batch_size, batch_warmup_steps or 0)
        self._bounds = window_bounds(len(self.items), global_batch_size, num_ranks)
        if self._warmup.initial < num_ranks:
            raise DataError(
                f"trainer.initial_batch_size={self._warmup.initial} gives not each of {num_ranks} ranks an item."
            )
        if global_batch_tokens is not None:
            self._sizes = [dataset.num_tokens([item]) for item in self.items]
        self._warming: dict[int, list[tuple[int, int]]] = {}
        self._newest: dict[int, list[tuple[int, int]]] = {}
        self._least = max(num_ranks, 1)
        self._epoch, self._position = 0, 0
        self.is_continued = is_continued

    def __len__(self) -> int:
        """Windows, that is optimizer steps, of the epoch that the next pass begins or goes on with."""
        return len(self._bounds_in(self._epoch + self._is_over()))

    def num_windows(self, num_epochs: int) -> int:
        """Optimizer steps of the first `num_epochs` epochs."""
        if self.global_batch_tokens is None and self._warmup.num_steps == 0:
            return num_epochs * len(self._bounds)
        return sum(len(self._bounds_in(epoch)) for epoch in range(num_epochs))

    def __iter__(self) -> Iterator[Window]:
        # Nothing moves before the first window is asked for: Lightning calls iter() before it loads a state, and
        # never runs an iterator to its end, so an epoch cannot be counted after the loop.
        if not self.is_continued:
            self._epoch, self._position = 0, 0
        elif self._is_over():
            self._epoch, self._position = self._epoch + 1, 0
        order, bounds = self._order(self._epoch), self._bounds_in(self._epoch)
        for position in range(self._position, len(bounds)):
            self._position = position + 1
            yield self._window(order, bounds[position])

    def of_all_ranks(self) -> "WindowLoader":
        """The same windows from the beginning, whole; this loader does not move."""
        whole = copy(self)
        whole.rank, whole.num_ranks, whole._epoch, whole._position = 0, 1, 0, 0
        return whole

    def whole_windows(self, rank: int, num_ranks: int) -> "WholeWindows":
        """Every `num_ranks`-th window of the first epoch, whole, from window `rank` on."""
        return WholeWindows(self.of_all_ranks(), rank, num_ranks)

    def first_epoch(self, positions: Iterable[int]) -> Iterator[Window]:
        """Some windows of the first epoch; an empty one for a position behind its end."""
        order, bounds = self._order(0), self._bounds_in(0)
        for position in positions:
            yield self._window(order, bounds[position]) if position < len(bounds) else ()

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of its windows were yielded."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken.

        Raises:
            DataError: if `state` is of an epoch with more windows than this one has.
        """
        num_windows = len(self._bounds_in(state["epoch"]))
        if state["position"] > num_windows:
            raise DataError(
                f"the checkpoint stands at window {state['position']} of an epoch, and this data has {num_windows}: "
                "it was written with other data or another batch size. Start a new run, or restore those."
            )
        self._epoch, self._position = state["epoch"], state["position"]

    def _is_over(self) -> bool:
        """Whether the next pass begins an epoch."""
        return self.is_continued and self._position == len(self._bounds_in(self._epoch))

    def _order(self, epoch: int) -> list[int]:
        return epoch_order(self.seed, epoch, len(self.items), self.shuffle)

    def _bounds_in(self, epoch: int) -> list[tuple[int, int]]:
        """(start, stop) of each window of an epoch."""
        before = self._steps_before(epoch)
        is_warming = before < self._warmup.num_steps
        if self.global_batch_tokens is None and not is_warming:
            return self._bounds
        kept = self._warming if is_warming else self._newest
        if epoch not in kept:
            if kept is self._newest:
                kept.clear()
            kept[epoch] = self._find_bounds(epoch, before)
        return kept[epoch]

    def _find_bounds(self, epoch: int, before: int) -> list[tuple[int, int]]:
        def most_items(number: int) -> int:
            return self._warmup.size_at(before + number, self.global_batch_size)

        if self.global_batch_tokens is None:
            num = len(self.items)
            return token_bounds([1] * num, num, most_items, self._least)
        sizes = [self._sizes[index] for index in self._order(epoch)]
        return token_bounds(sizes, self.global_batch_tokens, most_items, self._least)

    def _steps_before(self, epoch: int) -> int:
        """Optimizer steps of the epochs before `epoch`; no further than the warm-up."""
        steps = 0
        for earlier in range(epoch):
            if steps >= self._warmup.num_steps:
                break
            steps += len(self._bounds_in(earlier))
        return steps

    def _window(self, order: list[int], bounds: tuple[int, int]) -> Window:
        start, stop = bounds
        window = [self.items[index] for index in order[start:stop]]
        if "drift" in self.view.wanted:
            window = self.dataset.borrow(window)
        first, last = ((stop - start) * share // self.num_ranks for share in (self.rank, self.rank + 1))
        return tuple(
            self.dataset.collate_items(micro_batch, self.collate, self.view)
            for micro_batch in self._micro_batches(window[first:last])
        )

    def _micro_batches(self, items: list[Item]) -> Iterator[list[Item]]:
        """`items` in order, as many at a time as fit."""
        most = self.micro_batch_size or len(items)
        taken: list[Item] = []
        for item in items:
            is_full = len(taken) == most
            if not is_full and taken and self.micro_batch_tokens is not None:
                is_full = self.dataset.num_tokens([*taken, item]) > self.micro_batch_tokens
            if is_full:
                yield taken
                taken = []
            taken.append(item)
        yield taken


@final
class WholeWindows:
    """One rank's windows where no window is shared: a loss that sees a whole window sees it as one process does.

    All ranks have as many, so that they stay in step; the last may be empty.
    """

    def __init__(self, loader: WindowLoader, rank: int, num_ranks: int):
        self._loader = loader
        self._rank, self._num_ranks = rank, num_ranks

    def __len__(self) -> int:
        return -(-len(self._loader) // self._num_ranks)

    def __iter__(self) -> Iterator[Window]:
        return self._loader.first_epoch(range(self._rank, len(self) * self._num_ranks, self._num_ranks))


def window_bounds(num_items: int, global_batch_size: int, num_ranks: int) -> list[tuple[int, int]]:
    """(start, stop) of each window. A tail with fewer items than ranks joins the window before it.

    >>> window_bounds(10, 4, 1), window_bounds(9, 4, 2)
    ([(0, 4), (4, 8), (8, 10)], [(0, 4), (4, 9)])

    Raises:
        DataError: if there is no item, or fewer items a window than ranks.
    """
    if min(num_items, global_batch_size) < max(num_ranks, 1):
        raise DataError(
            f"{num_items} items in windows of trainer.global_batch_size={global_batch_size} do not give each of "
            f"{num_ranks} ranks an item. Use fewer devices, a larger batch, or more data."
        )
    starts = list(range(0, num_items, global_batch_size))
    if num_items - starts[-1] < num_ranks:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_items], strict=True))


def token_bounds(
    sizes: Sequence[int], most_tokens: int, most_items: Callable[[int], int], num_ranks: int
) -> list[tuple[int, int]]:
    """(start, stop) of windows of items of so many tokens, in order, each as large as both bounds allow.

    `most_items` is asked for the number of the window. No window has fewer items than ranks, whatever their tokens; a
    tail with fewer joins the window before it.

    >>> token_bounds([3, 4, 9, 1, 1, 1, 1], 8, lambda number: 3, 1)
    [(0, 2), (2, 3), (3, 6), (6, 7)]
    """
    bounds, start, total = [], 0, 0
    for at, size in enumerate(sizes):
        num = at - start
        if num >= num_ranks and (num >= most_items(len(bounds)) or total + size > most_tokens):
            bounds.append((start, at))
            start, total = at, 0
        total += size
    if len(sizes) - start < num_ranks and bounds:
        start = bounds.pop()[0]
    return [*bounds, (start, len(sizes))]
