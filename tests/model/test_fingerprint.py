from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from dpo_lab.model.causal_lm import causal_lm
from dpo_lab.model.fingerprint import weight_fingerprint
from tests.model.architectures import ARCHITECTURES

Folder = Callable[[str], Path]


def test_one_weight_by_one_ulp(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")))
    before = policy.fingerprint()
    parameter = list(policy.parameters())[3].data.view(-1)
    value = parameter[5].clone()
    parameter[5] = torch.nextafter(value, torch.tensor(torch.inf))
    assert policy.fingerprint() != before
    parameter[5] = value
    assert policy.fingerprint() == before


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_not_with_a_reload_an_export_or_a_mode(name: str, model_folder: Folder, tmp_path: Path):
    policy = causal_lm(path=str(model_folder(name)))
    before = policy.fingerprint()
    assert causal_lm(path=str(model_folder(name)), dropout=0.2).fingerprint() == before
    policy.train().requires_grad_(False)
    policy.export(tmp_path)
    assert policy.fingerprint() == causal_lm(path=str(tmp_path)).fingerprint() == before


def test_what_is_computed_with_the_weights_counts(model_folder: Folder):
    """The same weights with another rotary base are another model."""
    policy = causal_lm(path=str(model_folder("llama")))
    before = policy.fingerprint()
    policy.model.config.rope_parameters = policy.model.config.rope_parameters | {"rope_theta": 5e5}
    assert policy.fingerprint() != before


def test_name_dtype_shape_and_buffers_count():
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.renamed = nn.Parameter(torch.zeros(2, 3))

    model = nn.Module()
    model.register_parameter("weight", nn.Parameter(torch.zeros(2, 3)))
    found = {weight_fingerprint(model), weight_fingerprint(Other())}
    model.register_buffer("seen", torch.zeros(()))
    found.add(weight_fingerprint(model))
    model.weight = nn.Parameter(torch.zeros(3, 2))
    found.add(weight_fingerprint(model))
    found.add(weight_fingerprint(model.bfloat16()))
    assert len(found) == 5
