"""Hashes that say which weights a model holds."""

import hashlib

import torch
from torch import nn


def weight_fingerprint(model: nn.Module) -> str:
    """sha256 over every parameter and persistent buffer: name, dtype, shape and bytes. Device does not matter.

    Tensors that share memory (tied embeddings) count under each of their names.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
