"""What an encoder reads of one example: texts, where each token stands in them, and in which rows it is read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dpo_lab.types import Encoded


class TokenPlace(NamedTuple):
    """Characters that a token stands for, in the text number `text`; None of a special token, which stands for none."""

    text: int | None
    begin: int
    end: int


class Reading(NamedTuple):
    """`texts` under their names, cut where the prompt was; a place for each token of the prompt; and for each row of
    ``input_ids`` the tokens of the prompt that it holds, without padding. A token may stand in several rows."""

    texts: tuple[tuple[str, str], ...]
    tokens: tuple[TokenPlace, ...]
    rows: tuple[tuple[int, ...], ...]

    def written(self, first: int, last: int) -> str:
        """What the tokens from number `first` to number `last` stand for, as it is written."""
        begin, end = self.tokens[first], self.tokens[last]
        return "" if begin.text is None else self.texts[begin.text][1][begin.begin : end.end]


def places_of(read: Any) -> list[TokenPlace]:
    """Where each token stands, of a tokenizer's answer that holds offsets."""
    return [
        TokenPlace(part, *offset) for part, offset in zip(read.sequence_ids(0), read["offset_mapping"], strict=True)
    ]


def cut_reading(
    texts: Sequence[tuple[str, str]], places: Sequence[TokenPlace], encoded: Encoded, rows: Sequence[Sequence[int]]
) -> Reading:
    """`places` of a whole prompt, of which `encoded` may have lost the end of what stands in front of its tail."""
    num_kept = len(encoded.prompt) - encoded.num_tail
    kept = (*places[:num_kept], *places[len(places) - encoded.num_tail :])
    if len(kept) < len(places):
        number, end = max((place.text, place.end) for place in kept if place.text is not None)
        texts = [(name, text[:end] if one == number else text) for one, (name, text) in enumerate(texts)]
    return Reading(tuple(texts), kept, tuple(map(tuple, rows)))
