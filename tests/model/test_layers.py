"""Computing layers twice, and compiling them: both act, and the numbers stay."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.layers import recompute_layers
from dpo_lab.types import Encoded

GROUPS = [Encoded((1, 20, 31), ((40, 2), (41, 42, 43, 2))), Encoded((1,), ((5, 6),))]


def gradients(policy: CausalLM) -> tuple[Tensor, dict[str, Tensor], int]:
    """Log-probs, gradients, and the numbers that were kept for the way back."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    torch.manual_seed(0)  # of dropout
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token = policy.log_prob(policy.collate(GROUPS)).token
    (token.sum() ** 2).backward()
    found = {name: tensor.grad for name, tensor in policy.named_parameters() if tensor.grad is not None}
    weights = sum(tensor.numel() for tensor in policy.parameters())
    return token.detach(), found, sum(kept.values()) - weights


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2"])
@pytest.mark.parametrize("knobs", [{}, {"attention": "padded"}, {"dropout": 0.3}, {"lora_rank": 2}], ids=str)
def test_computing_layers_twice_keeps_less_and_changes_nothing(
    name: str, knobs: dict[str, Any], model_folder: Callable[[str], Path]
):
    path = str(model_folder(name))
    token, plain, much = gradients(causal_lm(path=path, **knobs))
    again, twice, little = gradients(causal_lm(path=path, gradient_checkpointing=True, **knobs))
    assert little < 0.7 * much
    assert torch.equal(token, again)
    assert plain.keys() == twice.keys()
    for key, gradient in plain.items():
        assert torch.equal(twice[key], gradient), key


def test_a_model_that_cannot_is_refused(model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch):
    model = causal_lm(path=str(model_folder("llama"))).model
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match=r"model.gradient_checkpointing"):
        recompute_layers(model)


@pytest.mark.slow
def test_compiled_layers_give_the_same_numbers(root: Path, model_folder: Callable[[str], Path]):
    """In a process of its own, since torch.compile cannot look through the run-time checks of these tests."""
    command = [sys.executable, "-m", "tests.model.compiled_layers", str(model_folder("llama"))]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["graphs"] == 4, "one set of kernels, before, around and after attention, for all layers and rows"
    assert found["log_probs"] <= 1e-5
    assert found["gradients"] <= 1e-5
    assert found["repeats"], "the same step twice, bit for bit"
    assert found["same_names"]


def test_compiling_and_computing_twice_exclude_each_other(model_folder: Callable[[str], Path]):
    with pytest.raises(UserError, match=r"model.compile and model.gradient_checkpointing"):
        causal_lm(path=str(model_folder("llama")), compile=True, gradient_checkpointing=True)
