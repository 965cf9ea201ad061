"""Keys of responses as text."""


def hex_key(high: int, low: int) -> str:
    """The 128-bit key of a response, two signed 64-bit integers, as 32 hex digits.

    >>> hex_key(-1, 10)
    'ffffffffffffffff000000000000000a'
    """
    return f"{high % 2**64:016x}{low % 2**64:016x}"


def key_of_hex(text: str) -> tuple[int, int]:
    """What `hex_key` made a text of.

    >>> key_of_hex("ffffffffffffffff000000000000000a")
    (-1, 10)
    """
    high, low = (int(half, 16) for half in (text[:16], text[16:]))
    return high - 2**64 * (high >> 63), low - 2**64 * (low >> 63)
