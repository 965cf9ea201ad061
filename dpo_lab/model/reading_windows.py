"""Long passages as windows that overlap, each behind its whole question."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dpo_lab.types import Encoded


class ReadingWindow(NamedTuple):
    """What the model reads at a time: `ids` are question, a part of the passage, and what ends it.

    Tokens are counted from the first of the passage: `first` stands right behind the `num_head` ids of the question;
    `first_counted` to `last_counted` are those that no other window sees better.
    """

    group: int
    ids: tuple[int, ...]
    num_head: int
    first: int
    first_counted: int
    last_counted: int


def reading_windows(groups: Sequence[Encoded], window: int, stride: int) -> list[ReadingWindow]:
    """The windows of each question in turn.

    Args:
        window: most tokens that are read at a time.
        stride: tokens of the passage that two neighbours share; at least that many.
    """
    return [made for index, group in enumerate(groups) for made in _of_group(index, group, window, stride)]


def _of_group(index: int, group: Encoded, window: int, stride: int) -> Iterator[ReadingWindow]:
    head, tail = group.prompt[: group.num_head], group.prompt[len(group.prompt) - group.num_tail :]
    passage = group.prompt[group.num_head : len(group.prompt) - group.num_tail]
    bounds = window_bounds(len(passage), window - len(head) - len(tail), stride)
    for number, (start, stop) in enumerate(bounds):
        # Halfway into what two neighbours share, a token is as far from the edge of one as from that of the other.
        counted = 0 if number == 0 else (start + bounds[number - 1][1]) // 2
        end = len(passage) if number == len(bounds) - 1 else (bounds[number + 1][0] + stop) // 2
        yield ReadingWindow(index, head + passage[start:stop] + tail, len(head), start, counted, end - 1)


def window_bounds(num_tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """(first, end) of each window over `num_tokens`, all of `room` tokens where one is not enough.

    >>> window_bounds(10, 10, 2), window_bounds(10, 6, 2), window_bounds(11, 6, 2)
    ([(0, 10)], [(0, 6), (4, 10)], [(0, 6), (4, 10), (5, 11)])
    """
    if num_tokens <= room:
        return [(0, num_tokens)]
    starts = [*range(0, num_tokens - room, room - stride), num_tokens - room]
    return [(start, start + room) for start in starts]
