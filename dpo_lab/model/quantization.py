"""A frozen model held in 8 or 4 bits below an adapter (QLoRA, Dettmers et al. 2023, arXiv 2305.14314)."""

import importlib
from functools import cache
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from dpo_lab.errors import UserError

Quantization = Literal["8bit", "4bit"]


def check_quantization(quantization: Quantization | None, *, has_adapter: bool) -> None:
    """Refuse what could not be trained, before any weight is read.

    Raises:
        UserError: there is no adapter to train; bitsandbytes is missing, or cannot quantise here.
    """
    if quantization is None:
        return
    named = f"model.quantization={quantization}"
    if not has_adapter:
        raise UserError(
            f"{named}: a quantised model cannot be trained whole; train an adapter on it with model.lora_rank, or "
            "leave it whole with model.quantization=null"
        )
    check_backend(quantization)


def check_backend(quantization: Quantization) -> None:
    """Whether bitsandbytes is there and quantises on this machine, found out by quantising something small.

    Raises:
        UserError: it is not, or does not.
    """
    named = f"model.quantization={quantization}"
    try:
        functional = importlib.import_module("bitsandbytes").functional
    except ImportError as error:
        raise UserError(
            f"{named} needs bitsandbytes, which is not installed: pip install 'dpo-lab[quantization]'"
        ) from error
    try:
        # Weights are quantised where they are read; a GPU gets them quantised.
        if quantization == "4bit":
            functional.quantize_4bit(torch.ones(64, 64), quant_type="nf4")
        else:
            functional.int8_vectorwise_quant(torch.ones(64, 64, dtype=torch.float16))
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        # In this order: its library did not load, so that its functions are those of None; no kernel is registered for
        # this device; the kernel itself failed.
        raise UserError(
            f"{named}: bitsandbytes cannot quantise on this machine ({type(error).__name__}: {error}); "
            "use model.quantization=null, or see its installation guide for this kind of device"
        ) from error


def bitsandbytes_options(quantization: Quantization, dtype: torch.dtype) -> dict[str, Any]:
    """What transformers' BitsAndBytesConfig is to be told.

    4 bits are NF4, their scales quantised once more, as in the paper; `dtype` is what is computed in.

    >>> bitsandbytes_options("8bit", torch.float32)
    {'load_in_8bit': True}
    """
    if quantization == "8bit":
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }


def loader_options(quantization: Quantization | None, dtype: torch.dtype) -> dict[str, Any]:
    """Options of `from_pretrained` that quantise while it reads; none for None."""
    if quantization is None:
        return {}
    from transformers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(**bitsandbytes_options(quantization, dtype))}


def settle(model: Any) -> None:
    """Have quantised layers compute with their weights unpacked, so that a row's numbers depend on the row alone.

    bitsandbytes 0.50 would do other things in evaluation than in training: on a CPU it packs 4 bits anew, in place,
    and computes in bfloat16 from then on; with 8 bits it rounds the activations as well, by their largest in the batch.
    A policy would then differ from its own reference.
    """
    if not is_quantized(model):
        return
    from bitsandbytes.nn import Linear4bit, Linear8bitLt  # type: ignore[import-not-found]

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
        elif isinstance(module, Linear8bitLt):
            module.__class__ = _unpacking_linear()


@cache
def _unpacking_linear() -> type[nn.Module]:
    """A class, since copies of a model keep their layers' class, and lose what is bound to a layer."""
    from bitsandbytes.nn import Linear8bitLt  # type: ignore[import-not-found]

    @final
    class UnpackingLinear(Linear8bitLt):
        def forward(self, x: Tensor) -> Tensor:
            if self.weight.CB is not None:
                self.init_8bit_state()
            codes = self.weight.data
            if self.state.SCB.device != codes.device:  # what no module knows of stays behind when a model moves
                self.state.CB, self.state.SCB = codes, self.state.SCB.to(codes.device)
            return UnpackedProduct.apply(x, codes, self.state.SCB, self.bias)

    return UnpackingLinear


@final
class UnpackedProduct(torch.autograd.Function):
    """x W^T + bias, where W is `codes` in 8 bits times a scale a row over 127; W and the bias are not trained.

    W is unpacked again on the way back and not kept, which is what holding it in 8 bits is for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.dtype = x.dtype
        return nn.functional.linear(x, unpack(codes, scales, x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        codes, scales = ctx.saved_tensors
        return (slopes[0] @ unpack(codes, scales, slopes[0].dtype)).to(ctx.dtype), None, None, None


def unpack(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix that ``codes[out, in]`` (int8) and ``scales[out]`` stand for: the largest of a row is its scale."""
    return (codes * (scales[:, None] / 127)).to(dtype)


def is_quantized(model: Any) -> bool:
    """Whether weights of this transformers model are held in fewer bits than they are computed in."""
    return bool(getattr(model, "is_quantized", False))


def refuse_quantized_checkpoint(path: str, config: Any) -> None:
    """Raises:
    UserError: the checkpoint with this `config` holds quantised weights, which nothing could be trained on exactly.
    """
    found = getattr(config, "quantization_config", None)
    if found is not None:
        method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
        raise UserError(
            f"model {path!r} is quantised already ({method}); give the model that it was made from, with "
            "model.quantization=4bit or 8bit"
        )
