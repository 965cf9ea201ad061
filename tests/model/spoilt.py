"""Ways in which a folder with a model can be spoilt, and the words of the answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

MISSING = "model.layers.0.mlp.down_proj.weight"


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


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


def as_encoder(folder: Path) -> None:
    """The weights of a BERT, which looks at the whole text; transformers loads it as a causal language model too."""
    tokenizer_rows = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].shape[0]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer_rows,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertForMaskedLM(config).save_pretrained(folder)


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
    "fewer layers in config.json": (
        edit(lambda weights: weights.update({MISSING.replace("layers.0", "layers.9"): weights[MISSING].clone()})),
        r"config.json describes fewer layers than the checkpoint holds, .* model\.layers\.9\.mlp\.down_proj",
    ),
    "eight bits without a scale": (
        edit(lambda weights: weights.update({MISSING: weights[MISSING].to(torch.float8_e4m3fn)})),
        rf"holds numbers of F8_E4M3 \({MISSING}\), and config.json says nothing of quantisation",
    ),
    "complex numbers": (
        edit(lambda weights: weights.update({MISSING: weights[MISSING].to(torch.complex64)})),
        rf"holds numbers of C64 \({MISSING}\)",
    ),
    "a pointer of Git LFS": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid x\n"),
        r"model\.safetensors is a pointer of Git LFS, not the weights: fetch them, git lfs pull",
    ),
    "an encoder": (as_encoder, r"depends on the tokens behind it, so it is no causal language model"),
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
