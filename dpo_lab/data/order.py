"""The order in which items are seen: a pure function of (seed, epoch)."""

import hashlib

import torch


def epoch_order(seed: int, epoch: int, num_items: int, shuffle: bool) -> list[int]:
    """Permutation of ``range(num_items)`` for one epoch; the identity without `shuffle`.

    No generator is kept, so nothing that happens elsewhere (validation, sampling, a resume) can move it.

    >>> epoch_order(0, 0, 4, shuffle=False)
    [0, 1, 2, 3]
    """
    if not shuffle:
        return list(range(num_items))
    digest = hashlib.blake2b(f"order {seed} {epoch}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randperm(num_items, generator=generator).tolist()
