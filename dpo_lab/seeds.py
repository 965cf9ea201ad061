"""One seed for each source of randomness, so that drawing more from one never moves another."""

import hashlib
from collections.abc import Mapping, Sequence

import torch

SOURCES = ("order", "init", "dropout", "sampling")


def derive_seeds(seed: int, given: Mapping[str, int | None]) -> dict[str, int]:
    """Seeds of data order, initial weights, dropout and sampling: as `given`, else derived from `seed`.

    >>> derive_seeds(0, {"order": 7})["order"]
    7
    """
    derived = {source: given.get(source) for source in SOURCES}
    return {source: _derive(seed, source) if value is None else value for source, value in derived.items()}


def seed_beside(seed: int, name: str) -> int:
    """Another seed, for what must not repeat the draws of `seed`: the same for the same `name`."""
    return _derive(seed, name)


def seed_of_rank(seed: int, rank: int) -> int:
    """The seed of dropout on one of several processes that train together; that of the first is `seed` itself."""
    return seed if rank == 0 else _derive(seed, f"rank {rank}")


def _derive(seed: int, source: str) -> int:
    digest = hashlib.blake2b(f"{seed}|{source}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def row_generators(seed: int, step: int, keys: Sequence[Sequence[int]]) -> list[torch.Generator]:
    """One generator a row, seeded by `seed`, the optimizer step and the row's key.

    So what a row draws depends neither on the other rows of its micro-batch nor on ranks, order or earlier draws.
    """
    return [torch.Generator().manual_seed(_row_seed(seed, step, key)) for key in keys]


def _row_seed(seed: int, step: int, key: Sequence[int]) -> int:
    digest = hashlib.blake2b(f"{seed}|{step}|{tuple(key)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def global_generators() -> dict[str, torch.Tensor]:
    """The states of torch's global generators, which dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_global_generators(states: Mapping[str, torch.Tensor]) -> None:
    """Put back what `global_generators` gave."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
