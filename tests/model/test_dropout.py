import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, MixtralConfig, MptConfig, XGLMConfig

from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.dropout import restore_config_dropout, set_config_dropout, set_module_dropout
from dpo_lab.types import Encoded

Folder = Callable[[str], Path]
GROUP = Encoded((1, 20, 31, 40, 41, 42, 43), ((44, 45, 46, 2), (50, 51, 52, 53, 54, 2)))


def spread(policy: CausalLM) -> float:
    """Largest difference between two forward passes of one batch, nats a token."""
    inputs = policy.collate([GROUP])
    with torch.no_grad():
        return (policy.log_prob(inputs).token - policy.log_prob(inputs).token).abs().max().item()


@pytest.mark.parametrize("name", ["llama", "gpt2", "xglm", "mixtral"])
def test_off_in_training_whatever_the_config_says(name: str, model_folder: Folder):
    """GPT-2 comes with 0.1 in four places; XGLM leaves out layers; Mixtral's router jitters."""
    policy = causal_lm(path=str(model_folder(name)))
    policy.train()
    assert spread(policy) == 0
    assert all(module.p == 0 for module in policy.modules() if isinstance(module, nn.Dropout))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_really_on_when_asked(name: str, model_folder: Folder):
    """Llama has it inside of attention alone, where no module holds a rate; in evaluation it is off."""
    policy = causal_lm(path=str(model_folder(name)), dropout=0.3)
    policy.train()
    assert spread(policy) > 0.01
    policy.eval()
    assert spread(policy) == 0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_exported_config_has_the_rates_it_came_with(model_folder: Folder, tmp_path: Path, dropout: float):
    folder = model_folder("gpt2")
    policy = causal_lm(path=str(folder), dropout=dropout)
    policy.export(tmp_path)
    before, after = (json.loads((place / "config.json").read_text()) for place in (folder, tmp_path))
    rates = {name: value for name, value in before.items() if "drop" in name}
    assert rates == {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "summary_first_dropout": 0.1}
    assert {name: after[name] for name in rates} == rates
    assert policy.model.config.attn_pdrop == dropout


def test_every_rate_is_set_and_put_back():
    config = GPT2Config(resid_pdrop=0.2, attn_pdrop=0.3)
    before = set_config_dropout(config, 0.05)
    assert before == {"resid_pdrop": 0.2, "embd_pdrop": 0.1, "attn_pdrop": 0.3, "summary_first_dropout": 0.1}
    assert {getattr(config, name) for name in before} == {0.05}
    applied = restore_config_dropout(config, before)
    assert {name: getattr(config, name) for name in before} == before
    assert applied == dict.fromkeys(before, 0.05)


def test_other_noise_of_training_is_off_whatever_the_rate():
    config = XGLMConfig(layerdrop=0.5)
    assert set_config_dropout(config, 0.2)["layerdrop"] == 0.5
    assert (config.layerdrop, config.dropout) == (0.0, 0.2)
    config = MixtralConfig(router_jitter_noise=0.3)
    set_config_dropout(config, 0.2)
    assert config.router_jitter_noise == 0


def test_nested_configs_and_rates_declared_as_int():
    """MPT keeps a rate in a config of its own, and declares it as a whole number."""
    config: Any = MptConfig(attn_config={"attn_pdrop": 0})
    before = set_config_dropout(config, 0.2)
    assert before["attn_config.attn_pdrop"] == 0
    assert config.attn_config.attn_pdrop == 0.2
    restore_config_dropout(config, before)
    assert config.attn_config.attn_pdrop == 0 and isinstance(config.attn_config.attn_pdrop, int)


def test_what_is_no_rate_is_left_alone():
    config = SimpleNamespace(classifier_dropout=None, use_dropout=True, hidden_size=8, dropout_mode="spatial")
    assert set_config_dropout(config, 0.2) == {}
    assert vars(config) == {
        "classifier_dropout": None,
        "use_dropout": True,
        "hidden_size": 8,
        "dropout_mode": "spatial",
    }


def test_modules_built_from_constants():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Sequential(nn.Dropout1d(0.7)))
    set_module_dropout(model, 0.1)
    assert [module.p for module in model.modules() if hasattr(module, "p")] == [0.1, 0.1]
