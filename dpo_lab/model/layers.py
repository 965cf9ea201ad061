"""How the layers of a transformers model are run: compiled, or computed twice to save memory. The numbers stay."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.model.grouped_attention import attend_outside_of_kernels


def prepare_layers(model: Any, *, recompute: bool, compile: bool) -> None:
    """`recompute_layers`, `compile_layers` or neither.

    Raises:
        UserError: both are wanted, or this kind of model cannot.
    """
    if recompute and compile:
        # torch.compile takes no code of ours around the second computation (`_attending`).
        raise UserError("model.compile and model.gradient_checkpointing exclude each other; switch one of them off")
    if recompute:
        recompute_layers(model)
    if compile:
        compile_layers(model)


def recompute_layers(model: Any) -> None:
    """Keep only each layer's input while training, and compute the rest again on the way back (Chen et al. 2016,
    arXiv 1604.06174): about a third more arithmetic for memory that no longer grows with what is inside a layer.

    Raises:
        UserError: transformers cannot do it for this kind of model.
    """
    config = model.config.get_text_config()

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _attending(config, config._attn_implementation)

    # The reentrant way needs inputs with a gradient, which the first layer of a frozen model has not.
    options = {"use_reentrant": False, "context_fn": contexts}
    # The second name is that of transformers before 5.23.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable(options)
    except ValueError as error:
        raise UserError(f"model.gradient_checkpointing: {error}") from error


@contextmanager
def _attending(config: Any, implementation: str) -> Iterator[None]:
    """The attention that a layer took on its way forward, which may be another by the time of the way back."""
    before = config._attn_implementation
    config._attn_implementation = implementation
    try:
        yield
    finally:
        config._attn_implementation = before


def compile_layers(model: Any) -> None:
    """Have torch.compile make kernels of each layer but its attention, at its first call; one set serves all lengths.

    Layer by layer, and not the model as a whole: layers are alike, so this compiles far less, and it holds however
    the model around them is walked through.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    attend_outside_of_kernels()
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers or [model]:
        layer.compile(dynamic=True)
