import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_lab.errors import UserError
from dpo_lab.model.causal_lm import causal_lm
from dpo_lab.model.loading import CodeNotRunWarning
from dpo_lab.types import Encoded
from tests.model.architectures import ARCHITECTURES, write_model

Folder = Callable[[str], Path]


@pytest.fixture
def broken(model_folder: Folder, tmp_path: Path) -> Path:
    """A copy of a model's folder, to be spoilt."""
    return Path(shutil.copytree(model_folder("llama"), tmp_path / "broken"))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


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


MISSING = "model.layers.0.mlp.down_proj.weight"


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


def cut_in_half(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def enlarge_vocabulary(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<{number}>" for number in range(400)])
    tokenizer.save_pretrained(folder)


def as_parts(*files: str) -> Callable[[Path], None]:
    """One file of weights, and an index that says that its tensors lie in `files`, in turn."""

    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "one.safetensors")
        names = load_file(folder / "one.safetensors")
        place = {name: files[number % len(files)] for number, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))

    return spoil


class Trap:
    """Opens a file where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("sprung", "w")


def as_pickle(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "trap": Trap()}, folder / "pytorch_model.bin")


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return spoil


def edit(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda folder: edit_weights(folder, change)


def put(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[MISSING].view(-1)[3] = value

    return change


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"is a folder without config\.json; give the folder that"),
    "bad config": (lambda f: (f / "config.json").write_text("{"), r"cannot be loaded .*not a valid JSON"),
    "truncated": (cut_in_half, r"model\.safetensors is no whole safetensors file \(\d+ bytes; .*copy it again"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), r"is no whole safetensors file \(0 bytes"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        r"holds no weights: none of model\.safetensors, .*found",
    ),
    "a part is missing": (
        as_parts("one.safetensors", "two.safetensors"),
        r"names two\.safetensors, which is not there",
    ),
    "a part lies elsewhere": (as_parts("../one.safetensors"), r"names '\.\./one\.safetensors', which is outside"),
    "bad index": (
        lambda f: (as_parts("one.safetensors")(f), (f / "model.safetensors.index.json").write_text("{}")),
        r"is no index of weights",
    ),
    "a weight is missing": (edit(lambda weights: weights.pop(MISSING)), rf"would be random: {MISSING}"),
    "another shape": (
        edit(lambda weights: weights.update({MISSING: torch.zeros(2, 2)})),
        rf"another shape than config.json says: {MISSING} \(2, 2\), not \(\d+, \d+\)",
    ),
    "whole numbers": (
        edit(lambda weights: weights.update({MISSING: weights[MISSING].int()})),
        rf"whole numbers where weights belong \({MISSING}\)",
    ),
    "not a number": (edit(put(float("nan"))), rf"1 of its weights are infinite or not a number, in {MISSING}"),
    "infinite": (edit(put(float("-inf"))), rf"1 of its weights are infinite or not a number, in {MISSING}"),
    "a pickle": (as_pickle, r"a pickle with more in it than tensors, and none of it was run"),
    "code of its own": (
        edit_config(model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}),
        r"needs code that comes with it, .*: model\.trust_remote_code=true",
    ),
    "bad tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), r"cannot be loaded"),
    "no tokenizer": (lambda f: [file.unlink() for file in f.glob("tokenizer*")], r"cannot be loaded .*tokenizer"),
    "too many tokens": (enlarge_vocabulary, r"the tokenizer has \d+ tokens but the embedding only 320 rows"),
}


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
