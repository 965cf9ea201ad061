import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_lab.errors import UserError
from dpo_lab.model.causal_lm import causal_lm
from dpo_lab.model.loading import CodeNotRunWarning
from dpo_lab.types import Encoded
from tests.model.architectures import ARCHITECTURES, write_model
from tests.model.spoilt import MISSING, SPOILT, edit_config, edit_weights

Folder = Callable[[str], Path]


@pytest.fixture
def broken(model_folder: Folder, tmp_path: Path) -> Path:
    """A copy of a model's folder, to be spoilt."""
    return Path(shutil.copytree(model_folder("llama"), tmp_path / "broken"))


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_weights_are_float32_whatever_the_checkpoint_holds(stored: torch.dtype, tmp_path: Path):
    write_model(tmp_path, "llama", dtype=stored)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(stored).removeprefix("torch.")
    policy = causal_lm(path=str(tmp_path))
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    weights = load_file(tmp_path / "model.safetensors")
    assert_close(policy.model.model.norm.weight.data, weights["model.norm.weight"].float(), atol=0, rtol=0)


def test_weights_in_bfloat16_when_asked(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")), dtype="bfloat16")
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.bfloat16}
    log_prob = policy.log_prob(policy.collate([Encoded((1, 20), ((30, 2),))]))
    assert log_prob.token.dtype == torch.float32


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_export_is_what_plain_transformers_loads(name: str, model_folder: Folder, tmp_path: Path):
    policy = causal_lm(path=str(model_folder(name)))
    policy.export(tmp_path)
    ids = torch.tensor([[1, 20, 31, 40]])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_close(model(ids).logits, policy.model(ids).logits, atol=0, rtol=0)
    assert tokenizer("the cat")["input_ids"] == policy.encoder.tokenizer("the cat")["input_ids"]
    assert causal_lm(path=str(tmp_path)).encoding_fingerprint() == policy.encoding_fingerprint()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exported_weights_come_back(name: str, model_folder: Folder, tmp_path: Path):
    """Also where a checkpoint names and shapes weights otherwise than the model (experts), or shares them."""
    policy = causal_lm(path=str(model_folder(name)))
    before = policy.fingerprint()
    policy.export(tmp_path)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    assert policy.fingerprint() != before
    policy.load_weights(tmp_path)
    assert policy.fingerprint() == before


def test_no_padding_token_is_needed(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")))
    assert policy.encoder.tokenizer.pad_token is None
    prompts = [Encoded((1, 20), ()), Encoded((1, 20, 21, 22), ())]
    drawn = policy.sample(prompts, generator=torch.Generator().manual_seed(0), max_new_tokens=3)
    groups = [replace(prompt, responses=(tuple(response),)) for prompt, response in zip(prompts, drawn, strict=True)]
    assert policy.log_prob(policy.collate(groups)).sum().isfinite().all()


def test_missing_weights_are_refused_by_name(broken: Path):
    """transformers draws them at random, with a warning."""
    edit_weights(broken, lambda weights: weights.pop(MISSING))
    with pytest.raises(UserError, match=rf"lacks weights of the model, which would be random: {MISSING};"):
        causal_lm(path=str(broken))


def test_many_missing_weights_are_counted(broken: Path):
    edit_weights(broken, lambda weights: [weights.pop(name) for name in list(weights) if "layers" in name])
    with pytest.raises(UserError, match=r"model\.layers\.0\.input_layernorm\.weight, .* and 13 more"):
        causal_lm(path=str(broken))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(MISSING), rf"do not fit the model: .*lacks .*{MISSING}"),
        (lambda weights: weights.update(more=torch.zeros(1)), r"do not fit the model: .*does not have: more"),
        (lambda weights: weights.update({MISSING: torch.zeros(2, 2)}), r"do not fit the model"),
    ],
    ids=["missing", "unknown", "another shape"],
)
def test_weights_that_do_not_fit_are_refused(
    broken: Path, model_folder: Folder, change: Callable[[dict[str, torch.Tensor]], object], message: str
):
    policy = causal_lm(path=str(model_folder("llama")))
    before = policy.fingerprint()
    edit_weights(broken, change)
    with pytest.raises(UserError, match=f"(?s){message}"):
        policy.load_weights(broken)
    assert policy.fingerprint() == before


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_folder_is_named(case: str, broken: Path):
    spoil, message = SPOILT[case]
    spoil(broken)
    with pytest.raises(UserError, match=f"(?s)broken.*{message}"):
        causal_lm(path=str(broken))
    assert not Path("sprung").exists()


def test_code_that_is_not_needed_is_not_run_and_said_so(broken: Path):
    """transformers knows the type, so builds its own; the checkpoint may mean another computation by it."""
    edit_config(auto_map={"AutoModelForCausalLM": "own.Model"})(broken)
    (broken / "own.py").write_text("open('sprung', 'w')")
    with pytest.warns(CodeNotRunWarning, match=r"comes with code of its own, which was not run: transformers' Llama"):
        causal_lm(path=str(broken))
    assert not Path("sprung").exists()


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_missing_folder(path: str):
    with pytest.raises(UserError, match="there is no such folder; give an existing folder or a hub name"):
        causal_lm(path=path)


def test_home_is_expanded(model_folder: Folder, monkeypatch: pytest.MonkeyPatch):
    folder = model_folder("llama")
    monkeypatch.setenv("HOME", str(folder.parent))
    assert causal_lm(path=f"~/{folder.name}").end_id == 2


@pytest.mark.parametrize("name", ["owner/name", "gpt2"])
def test_a_hub_name_without_network(name: str):
    with pytest.raises(UserError, match=rf"model '{name}' .*the hub cannot be reached.*Give a local path"):
        causal_lm(path=name)
