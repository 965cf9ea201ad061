"""One seed for each source of randomness, so that drawing more from one never moves another."""

import hashlib
from collections.abc import Mapping

SOURCES = ("order", "init", "dropout", "sampling")


def derive_seeds(seed: int, given: Mapping[str, int | None]) -> dict[str, int]:
    """Seeds of data order, initial weights, dropout and sampling: as `given`, else derived from `seed`.

    >>> derive_seeds(0, {"order": 7})["order"]
    7
    """
    derived = {source: given.get(source) for source in SOURCES}
    return {source: _derive(seed, source) if value is None else value for source, value in derived.items()}


def _derive(seed: int, source: str) -> int:
    digest = hashlib.blake2b(f"{seed}|{source}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
