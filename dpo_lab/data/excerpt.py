"""A few characters of a value, so that a message shows what it speaks of."""

import reprlib
from typing import Any

WIDTH = 48

_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxdict = 3
_short.maxlevel = 3
_short.maxstring = _short.maxother = _short.maxlong = WIDTH


def excerpt(value: Any) -> str:
    """`value` in one line of about `WIDTH` characters, however long or deep it is; of a text its beginning.

    >>> excerpt("two\\nlines"), excerpt("a" * 60)[-6:]
    ("'two\\\\nlines'", 'aaa...')
    """
    if isinstance(value, str):
        return repr(value) if len(value) <= WIDTH else repr(value[:WIDTH])[:-1] + "..."
    try:
        short = _short.repr(value)
    except ValueError:  # an integer of more digits than Python turns into text
        return f"a {type(value).__name__} of thousands of digits"
    return short if len(short) <= 2 * WIDTH else short[: 2 * WIDTH] + "..."


def around_difference(one: str, other: str, before: int = 12) -> str:
    """Both texts from shortly before the first character at which they differ.

    >>> around_difference("the cat sat", "the cap sat")
    "'the cat sat' against 'the cap sat'"
    """
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - before)
    return f"{excerpt(one[start:])} against {excerpt(other[start:])}"
