"""Texts as overlapping n-grams of characters, which no tokenizer makes by itself: spaced out, each is a word.

A small classifier learns more from pairs of characters than from single ones, and a tokenizer cuts a text into pieces
that do not overlap. So a text is written as its n-grams, and the tokenizer takes what stands between spaces.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for white space inside of an n-gram."""

KEY = "ngrams"
"""What a tokenizer's config says the length of the longest n-gram under."""


def ngrams_of(tokenizer: Any) -> int | None:
    """Length of the longest n-gram that `tokenizer` wants texts written in; None for one that takes plain text."""
    return tokenizer.init_kwargs.get(KEY)


def spaced_ngrams(text: str, longest: int, known: Collection[str] | None = None) -> str:
    """`text` as its n-grams between spaces: at each character that one, then those of two and more that begin there.

    Text is brought to one form first (Unicode NFKC, lower case, white space as one sign).

    >>> spaced_ngrams("A b", 2)
    'a a▁ ▁ ▁b b'
    >>> spaced_ngrams("abc", 3, known={"ab"})
    'a ab b c'

    Args:
        longest: characters of the longest n-gram, at least 1.
        known: those of two and more characters that are written; None: all.
    """
    plain = one_form(text)
    return " ".join(plain[begin:end] for begin, end in ngram_places(plain, longest, known))


def one_form(text: str) -> str:
    """`text` as its n-grams are cut from it."""
    return SPACE.join(unicodedata.normalize("NFKC", text).lower().split())


def ngram_places(plain: str, longest: int, known: Collection[str] | None = None) -> list[tuple[int, int]]:
    """First character and end of each n-gram of `plain`, in the order in which `spaced_ngrams` writes them.

    >>> ngram_places("abc", 2, known={"bc"})
    [(0, 1), (1, 2), (1, 3), (2, 3)]
    """
    places = ((at, at + size) for at in range(len(plain)) for size in range(1, min(longest, len(plain) - at) + 1))
    return [(begin, end) for begin, end in places if end - begin == 1 or known is None or plain[begin:end] in known]


def plain_text(spaced: str) -> str:
    """The text whose n-grams `spaced` holds, in its one form.

    >>> plain_text("a a▁ ▁ ▁b b")
    'a b'
    """
    return "".join(gram for gram in spaced.split(" ") if len(gram) == 1).replace(SPACE, " ")


def commonest_ngrams(corpus: Iterable[str], longest: int, num: int, min_count: int) -> list[str]:
    """The `num` n-grams that stand in most places of `corpus`, `min_count` at least, the commonest first."""
    counts = Counter(gram for text in corpus for gram in spaced_ngrams(text, longest).split(" ") if gram)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [gram for gram, count in ordered[:num] if count >= min_count]
