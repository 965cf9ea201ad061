"""Hashes that say which model it is: its weights, and what is computed with them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.model.dropout import is_training_noise

# What a config says beside the computation; a dtype is in the weights already.
SILENT = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache")


def weight_fingerprint(model: nn.Module) -> str:
    """sha256 over every parameter and persistent buffer: name, dtype, shape and bytes. Device does not matter.

    Tensors that share memory (tied embeddings) count under each of their names.
    """
    return tensor_fingerprint(model.state_dict())


def tensor_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over tensors in the order of their names: name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_of_each(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """A hash of 16 hex digits of each tensor, by which one that has changed is found."""
    return {name: tensor_fingerprint({name: tensor})[:16] for name, tensor in sorted(tensors.items())}


def model_fingerprint(model: Any, weights: Mapping[str, Tensor] | None = None) -> str:
    """sha256 over the weights of a transformers model and its config, without dropout rates, versions and paths.

    `weights` stand for the model's own, where it holds others beside them.

    The same weights under another rotary base or window give other log-probabilities, so they are another model.
    """
    config = json.dumps(_computation(model.config.to_dict()), sort_keys=True, default=str)
    hashed = weight_fingerprint(model) if weights is None else tensor_fingerprint(weights)
    return hashlib.sha256(f"{hashed}|{config}".encode()).hexdigest()


def _computation(node: Any) -> Any:
    if isinstance(node, dict):
        kept = {str(key): value for key, value in node.items() if key not in SILENT and not is_training_noise(str(key))}
        return {key: _computation(value) for key, value in kept.items()}
    return node
