"""Where prompts and responses lie in a packed row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Tokens of one response in the packed row, and of the prompt that it answers: where they start, and how many."""

    prompt_at: int
    prompt_length: int
    response_at: int
    response_length: int

    @property
    def end(self) -> int:
        return self.response_at + self.response_length


def read_spans(spans: Tensor) -> tuple[Span, ...]:
    """One `Span` a line of ``spans[n, 4]``, in the order of the row."""
    return tuple(Span(*line) for line in spans.tolist())


def group_spans(spans: Sequence[Span]) -> list[list[Span]]:
    """The responses behind each prompt.

    >>> len(group_spans([Span(0, 2, 2, 3), Span(0, 2, 5, 1), Span(6, 1, 7, 1)]))
    2
    """
    groups: list[list[Span]] = []
    for span in spans:
        if groups and groups[-1][0].prompt_at == span.prompt_at:
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


@final
class PackedRow:
    """What lies in one packed row. A plain object, into which torch.compile does not look: of a tuple of spans it would
    make kernels anew for each length."""

    def __init__(self, spans: Sequence[Span]):
        self.groups = group_spans(spans)
