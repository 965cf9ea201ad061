"""Words of a text, in scripts with and without blanks between them."""

import re

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and Chinese characters, of which each counts as a word."""

WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_WITH_BLANKS = re.compile(rf"(?:[{UNSPACED}]|[^\s{UNSPACED}]+)[^\S\n]*")


def without_words(text: str, is_dropped: list[bool]) -> str:
    """`text` without the words for which `is_dropped` says so, and the blanks behind them; line breaks stay.

    >>> without_words("one two\\nthree", [False, True, False])
    'one \\nthree'
    """
    flags = iter(is_dropped)
    return _WITH_BLANKS.sub(lambda match: "" if next(flags) else match.group(), text)
