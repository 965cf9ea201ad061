"""What a quantised base refuses, how it is asked for, and what its layers compute. bitsandbytes is no part of the
tests' environment, so a stand-in with the same names is put in its place, or nothing."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.config.cross import adapter_is_there
from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.quantization import (
    Quantization,
    UnpackedProduct,
    bitsandbytes_options,
    check_backend,
    check_quantization,
    loader_options,
    refuse_quantized_checkpoint,
    settle,
    unpack,
)

Folder = Callable[[str], Path]
BOTH: list[Quantization] = ["8bit", "4bit"]


@pytest.mark.parametrize("quantization", BOTH)
def test_without_an_adapter_it_is_refused_before_anything_is_read(quantization: Quantization):
    with pytest.raises(UserError, match=rf"model.quantization={quantization}: .*trained whole.*model.lora_rank"):
        causal_lm(path="/no/such/folder", quantization=quantization)


@pytest.mark.parametrize("quantization", BOTH)
def test_without_bitsandbytes_it_is_said_what_to_install(quantization: Quantization, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r"needs bitsandbytes.*pip install 'dpo-lab\[quantization\]'"):
        causal_lm(path="/no/such/folder", lora_rank=2, quantization=quantization)
    check_quantization(None, has_adapter=False)


@pytest.mark.parametrize("quantization", BOTH)
def test_a_machine_that_cannot_is_found_out(quantization: Quantization, monkeypatch: pytest.MonkeyPatch):
    """In the place of bitsandbytes stand two of its functions: as they are, and as torch's dispatch of an operator
    that has no kernel for a device fails."""
    asked: list[dict[str, Any]] = []

    def works(weights: Tensor, **options: Any) -> None:
        asked.append(options)

    def fails(weights: Tensor, **options: Any) -> None:
        raise NotImplementedError("no kernel")

    for functional in (works, fails):
        names = {"quantize_4bit": functional, "int8_vectorwise_quant": functional}
        monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(functional=SimpleNamespace(**names)))
        if functional is works:
            check_backend(quantization)
            continue
        with pytest.raises(UserError, match=f"={quantization}: bitsandbytes cannot quantise on this.*no kernel"):
            check_backend(quantization)
    assert asked == [{"quant_type": "nf4"} if quantization == "4bit" else {}]


def test_what_bitsandbytes_is_told():
    """NF4 and a second quantisation are QLoRA's; transformers' own default is FP4 and one."""
    assert bitsandbytes_options("8bit", torch.bfloat16) == {"load_in_8bit": True}
    assert bitsandbytes_options("4bit", torch.bfloat16) == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    assert loader_options(None, torch.float32) == {}


def test_a_quantised_checkpoint_is_refused():
    config = SimpleNamespace(quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(UserError, match=r"'owner/name' is quantised already \(bitsandbytes\).*model.quantization=4bit"):
        refuse_quantized_checkpoint("owner/name", config)
    refuse_quantized_checkpoint("owner/name", SimpleNamespace())


def faults(model: dict[str, Any], start: str | None = None) -> list[str]:
    knobs = {"path": "owner/name", "lora_rank": 4, "lora_export": "merged", "quantization": "4bit"}
    node = None if start is None else {"_target_": start}
    return list(adapter_is_there({"model": knobs | model, "start": node}))


def test_contradictions_are_faults_of_the_config():
    assert not faults({})
    assert not faults({}, "dpo_lab.start.none")
    assert not faults({"lora_export": "adapter", "quantization": None}, "dpo_lab.start.none")
    assert not faults({"quantization": None, "lora_rank": None}, "dpo_lab.start.SupervisedStart")
    [fault] = faults({}, "dpo_lab.start.SupervisedStart")
    assert fault.startswith("model.quantization: the start trains the model below the adapter")
    [fault] = faults({"lora_rank": None})
    assert fault.startswith("model.quantization: a quantised model cannot be trained whole")


def test_unpacked_by_hand():
    """Scale 2 is code 127, so 127 and -64 are 2 and -128/127."""
    weights = unpack(torch.tensor([[127, -64]], dtype=torch.int8), torch.tensor([2.0]), torch.float32)
    assert weights[0].tolist() == pytest.approx([2.0, -128 / 127])


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_product_with_unpacked_weights_has_the_gradient_of_a_plain_one(has_bias: bool):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-127, 128, (5, 3), generator=generator, dtype=torch.int8)
    scales, x = torch.rand(5, generator=generator), torch.randn(2, 4, 3, generator=generator, requires_grad=True)
    bias = torch.randn(5, generator=generator) if has_bias else None
    found = UnpackedProduct.apply(x, codes, scales, bias)
    expected = torch.nn.functional.linear(x, unpack(codes, scales, torch.float32), bias)
    assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator)
    [slope], [plain] = (torch.autograd.grad((weights * value).sum(), x) for value in (found, expected))
    assert_close(slope, plain)


def test_a_product_under_autocast():
    """The way back is outside of autocast, and its slopes are as narrow as what came out."""
    codes, x = torch.full((2, 2), 127, dtype=torch.int8), torch.ones(3, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        product = UnpackedProduct.apply(x, codes, torch.ones(2), None)
    assert product.dtype == torch.bfloat16 and product.tolist() == [[2.0, 2.0]] * 3
    product.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32 and x.grad.tolist() == [[2.0, 2.0]] * 3


def test_layers_are_settled(monkeypatch: pytest.MonkeyPatch):
    """A layer of 4 bits is kept from packing itself otherwise, one of 8 bits computes unpacked, others stay."""

    class Four(torch.nn.Linear):
        support_avx512bf16_for_cpu = True

    class Eight(torch.nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise AssertionError("rounds activations")

    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", SimpleNamespace(Linear4bit=Four, Linear8bitLt=Eight))
    model: Any = torch.nn.ModuleList([Four(2, 2), Eight(2, 2), torch.nn.Linear(2, 2)])
    settle(model)
    assert type(model[1]) is Eight
    model.is_quantized = True
    settle(model)
    assert [type(layer).__name__ for layer in model] == ["Four", "UnpackingLinear", "Linear"]
    assert not model[0].support_avx512bf16_for_cpu
    held: Any = torch.nn.Parameter(torch.tensor([[127, 0], [0, 127]], dtype=torch.int8), requires_grad=False)
    held.CB = None
    model[1].weight = held
    model[1].state = SimpleNamespace(SCB=torch.tensor([3.0, 5.0]), CB=None)
    model[1].bias = None
    assert model[1](torch.ones(1, 2)).tolist() == [[3.0, 5.0]]


@pytest.fixture
def policy(model_folder: Folder) -> CausalLM:
    """A policy that says it is quantised, with weights that `dequantize` doubles."""
    policy = causal_lm(path=str(model_folder("llama")), lora_rank=2)
    assert policy.adapter is not None
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in policy.adapter.tensors().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    policy.model.is_quantized = True
    policy.quantization = "4bit"
    return policy


def test_merged_means_unpacked_first(policy: CausalLM, monkeypatch: pytest.MonkeyPatch):
    """Each merged matrix is the unpacked one (here twice what is held) and the product of the factors, times 2."""

    def dequantize(model: Any, dtype: torch.dtype) -> Any:
        assert not any("lora_" in name for name, _ in model.named_parameters())
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.mul_(2)
        model.is_quantized = False
        return model.to(dtype)

    monkeypatch.setattr(type(policy.model), "dequantize", dequantize)
    adapter = policy.adapter
    assert isinstance(adapter, Adapter)
    merged = dict(adapter.merged().named_parameters())
    factors, weights = adapter.tensors(), adapter.base_weights()
    place = "model.layers.1.self_attn.q_proj"
    product = factors[f"{place}.lora_B.default.weight"] @ factors[f"{place}.lora_A.default.weight"]
    assert_close(merged[f"{place}.weight"], 2 * weights[f"{place}.weight"] + 2 * product, rtol=1e-5, atol=1e-6)
    assert_close(merged["model.layers.1.mlp.up_proj.weight"], 2 * weights["model.layers.1.mlp.up_proj.weight"])


def test_a_start_cannot_train_it(policy: CausalLM):
    with pytest.raises(UserError, match=r"model.quantization: a start trains.*start=none"), policy.below_adapter():
        pass
    assert policy.adapter is not None


def test_it_is_part_of_what_a_log_prob_depends_on(policy: CausalLM, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dpo_lab.model.transformers_policy.version", lambda name: f"version of {name}")
    named = {"quantization": "4bit", "bitsandbytes": "version of bitsandbytes"}
    assert named.items() <= policy.computation().items()
    policy.quantization = None
    assert not named.keys() & policy.computation().keys()
