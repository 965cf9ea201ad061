"""A response cut into pieces of whole characters, each with what its tokens are worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

CONTEXT = 4
"""Tokens before a response that decide how its first one reads, as whether a space stands in front of it."""

PARTIAL = "\ufffd"


@dataclass(frozen=True)
class Piece:
    """Text of one token, or of several that share a character; joined, the pieces of a response are its text.

    `values` are those of its tokens, in order, and `tokens` their texts where these are not the piece itself.
    `is_special` is of a token that stands for no text, under its name; `is_marked` of what belongs to an answer.
    """

    text: str
    values: tuple[float, ...]
    is_special: bool = False
    tokens: tuple[str, ...] = ()
    is_marked: bool = False

    @property
    def value(self) -> float:
        return sum(self.values)


def cut_into_pieces(
    ids: Sequence[int], values: Sequence[float], tokenizer: Any | None, before: Sequence[int] = ()
) -> list[Piece]:
    """The tokens `ids` behind the tokens `before`, with a value each.

    Tokens that hold parts of one character, or none, make one piece with what completes it. Without a tokenizer a
    piece is the number of a token.
    """
    if tokenizer is None:
        return [Piece(f"{token} ", (value,)) for token, value in zip(ids, values, strict=True)]
    special = set(tokenizer.all_special_ids) | {
        token for token, added in tokenizer.added_tokens_decoder.items() if added.special
    }
    return list(_pieces(ids, values, tokenizer, special, list(before[-CONTEXT:])))


def _pieces(
    ids: Sequence[int], values: Sequence[float], tokenizer: Any, special: set[int], behind: list[int]
) -> Iterator[Piece]:
    waiting: list[int] = []
    worth: list[float] = []
    for place, (token, value) in enumerate(zip(ids, values, strict=True)):
        if token in special:
            if waiting:
                yield Piece(_text(behind, waiting, tokenizer), tuple(worth))
            yield Piece(str(tokenizer.convert_ids_to_tokens(token)), (value,), is_special=True)
            behind, waiting, worth = [token], [], []
            continue
        waiting, worth = [*waiting, token], [*worth, value]
        text = _text(behind, waiting, tokenizer)
        if place + 1 == len(ids) or (text and not text.endswith(PARTIAL)):
            yield Piece(text, tuple(worth))
            behind, waiting, worth = waiting, [], []


def _text(behind: list[int], ids: list[int], tokenizer: Any) -> str:
    def decode(tokens: list[int]) -> str:
        return tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    if not behind:
        return decode(ids)
    start, both = decode(behind), decode([*behind, *ids])
    return both[len(start) :] if both.startswith(start) else decode(ids)
