"""What is cleaned out of a text, and where the places of a text are afterwards."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

Unicode = Literal["NFC", "NFKC"]
WhiteSpace = Literal["strip", "collapse"]

Characters = Literal[
    "control",
    "replacement",
    "byte_order_mark",
    "noncharacter",
    "zero_width",
    "joiner",
    "direction",
    "soft_hyphen",
    "private_use",
]

CHARACTERS: dict[Characters, str] = {
    "control": r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f",
    "replacement": "\ufffd",
    "byte_order_mark": "\ufeff",
    "noncharacter": "\ufdd0-\ufdef"
    + "".join(chr((plane << 16) + low) for plane in range(17) for low in (65534, 65535)),
    "zero_width": "\u200b\u2060",
    "joiner": "\u200c\u200d",
    "direction": "\u200e\u200f\u202a-\u202e\u2066-\u2069",
    "soft_hyphen": "\u00ad",
    "private_use": "\ue000-\uf8ff",
}
"""Members of each declared set, as a character class. Half surrogate pairs are in none: their rows are never read."""

LINE_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_RUN = re.compile(r"[^\S\n]+")


@final
@dataclass(frozen=True)
class Cleaner:
    """What is done to a text, in this order: line breaks become ``\\n``, characters go, Unicode, white space.

    Cleaning twice is cleaning once.
    """

    characters: tuple[Characters, ...]
    line_breaks: bool
    unicode: Unicode | None
    whitespace: WhiteSpace | None

    def clean(self, text: str, *, left: bool = True, right: bool = True, done: set[str] | None = None) -> str:
        """`text` cleaned.

        Args:
            left: whether white space at its beginning is stripped too, where any is.
            right: the same of its end.
            done: gets the names of what has changed something.
        """
        for name, change in self._changes(left, right):
            changed = change(text)
            if done is not None and changed != text:
                done.add(name)
            text = changed
        return text

    def _changes(self, left: bool, right: bool):
        if self.line_breaks:
            yield "line_breaks", lambda text: LINE_BREAKS.sub("\n", text)
        for name in self.characters:
            yield name, lambda text, name=name: _PATTERNS[name].sub("", text)
        form = self.unicode
        if form is not None:
            yield form, lambda text: unicodedata.normalize(form, text)
        if self.whitespace == "collapse":
            yield "white_space", lambda text: _RUN.sub(" ", text)
        if self.whitespace is not None:
            yield "white_space", lambda text: _strip(text, left, right)

    def clean_between(self, text: str, places: Sequence[int], *, done: set[str]) -> tuple[str, dict[int, int]] | None:
        """`text` cleaned, and where each of `places` (characters of it) then is.

        None where that cannot be said: a place lies inside of what becomes one character, or of white space that goes.
        """
        cuts = sorted({0, len(text), *places})
        pieces = [self.clean(text[start:end], left=start == 0, right=end == len(text)) for start, end in pairwise(cuts)]
        whole = self.clean(text, done=done)
        if "".join(pieces) != whole:
            return None
        moved, at = {0: 0}, 0
        for end, piece in zip(cuts[1:], pieces, strict=True):
            at += len(piece)
            moved[end] = at
        return whole, moved


def _strip(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


_PATTERNS = {name: re.compile(f"[{members}]") for name, members in CHARACTERS.items()}
