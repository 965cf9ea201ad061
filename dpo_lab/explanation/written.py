"""Shares of tokens laid over the text that they were cut from."""

from collections.abc import Sequence
from dataclasses import replace

from dpo_lab.explanation.pieces import Piece
from dpo_lab.model.reading import Reading, TokenPlace


def lay_over(
    reading: Reading, shares: Sequence[float], span: Sequence[int] | None = None
) -> list[tuple[str, list[Piece]]]:
    """The texts of `reading` under their names, each cut into pieces that add up to the shares of its tokens.

    A token's share is spread evenly over its characters, so that tokens which overlap (n-grams of characters) add up
    where they do; characters under the same tokens are one piece. What stands between tokens, as a space does, goes
    with the piece behind it. `span` are the first and the last token of what is marked.
    """
    marked = () if span is None else [reading.tokens[number] for number in range(span[0], span[-1] + 1)]
    laid = []
    for number, (name, text) in enumerate(reading.texts):
        tokens = [(place, share) for place, share in zip(reading.tokens, shares, strict=True) if place.text == number]
        laid.append((name, _pieces(text, tokens, [place for place in marked if place.text == number])))
    return laid


def _pieces(text: str, tokens: Sequence[tuple[TokenPlace, float]], marked: Sequence[TokenPlace]) -> list[Piece]:
    bounds = sorted({bound for place, _ in tokens for bound in (place.begin, place.end)})
    rank = {bound: number for number, bound in enumerate(bounds)}
    over: list[list[tuple[TokenPlace, float]]] = [[] for _ in bounds]
    for place, share in tokens:
        for number in range(rank[place.begin], rank[place.end]):
            over[number].append((place, share))
    pieces: list[Piece] = []
    done = 0
    for begin, end, found in zip(bounds, bounds[1:], over, strict=False):
        if not found:
            continue
        values = tuple(share * (end - begin) / (place.end - place.begin) for place, share in found)
        names = tuple(text[place.begin : place.end] for place, _ in found)
        is_marked = any(place in marked for place, _ in found)
        pieces.append(Piece(text[done:end], values, tokens=names if len(names) > 1 else (), is_marked=is_marked))
        done = end
    if pieces and done < len(text):
        pieces[-1] = replace(pieces[-1], text=pieces[-1].text + text[done:])
    # A token without a character, as some tokenizers make: beside the text, so that nothing is lost.
    return pieces + [Piece("∅", (share,), is_special=True) for place, share in tokens if place.begin == place.end]
