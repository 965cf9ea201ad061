"""The low-rank factors inside of a transformers model: switched off, exchanged, named by a hash, written to disk."""

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from dpo_lab.errors import UserError
from dpo_lab.model.fingerprint import model_fingerprint, tensor_fingerprint
from dpo_lab.model.quantization import is_quantized

NAME = "default"  # peft's own name of a model's only adapter
INSIDE = ".base_layer."  # peft moves what was at `x.weight` to `x.base_layer.weight`
OWN = "lora_"  # and so begins, somewhere in its name, every tensor that it adds


@final
class Adapter:
    """A LoRA adapter that peft put into a model. Not a torch module: its tensors are the model's.

    Attributes:
        base: folder or hub name of the model below; None where that exists nowhere but here.
        is_trained: it came from a folder, so it says something before the first update.
        exported_alone: `save` and not `merged` is what the user wants in the end.
    """

    def __init__(self, wrapped: Any, *, base: str | None, is_trained: bool = False, exported_alone: bool = False):
        """`wrapped` is peft's model around the one that holds the adapter.

        Raises:
            UserError: it sits in the embedding or in the output head.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        self._wrapped = wrapped
        self.base = base
        self.is_trained = is_trained
        self.exported_alone = exported_alone
        self._model = wrapped.get_base_model()
        self._layers: list[Any] = [module for module in self._model.modules() if isinstance(module, BaseTunerLayer)]
        for embedding in (self._model.get_input_embeddings(), self._model.get_output_embeddings()):
            if isinstance(embedding, BaseTunerLayer):
                raise UserError("model.lora_target: the embedding and the output head take no adapter; leave them out")
        self._holders = {
            f"{path}.{name}": (module, name)
            for path, module in self._model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
            if OWN in f"{path}.{name}"
        }

    @property
    def dropout(self) -> float:
        """Dropout in front of the adapter, in [0, 1)."""
        return self._config.lora_dropout

    @property
    def _config(self) -> Any:
        return self._wrapped.peft_config[NAME]

    def set_dropout(self) -> None:
        """Apply the adapter's own dropout, which differs from the model's."""
        for layer in self._layers:
            for module in layer.lora_dropout.values():
                if isinstance(module, nn.Dropout):
                    module.p = self.dropout

    def tensors(self) -> dict[str, nn.Parameter]:
        """Both factors at each matrix, by full name."""
        return {path: getattr(module, name) for path, (module, name) in self._holders.items()}

    def is_zero(self) -> bool:
        """Whether the adapter changes no number, as before its first update: one factor of each product is zero."""
        return all(not tensor.any() for name, tensor in self.tensors().items() if "lora_B" in name)

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model without the adapter. A graph built outside is untouched: no tensor changes."""
        before = [layer.disable_adapters for layer in self._layers]
        try:
            # What peft's own switch sets; that one also turns gradients off and all of them on again, layer by layer.
            for layer in self._layers:
                vars(layer)["_disable_adapters"] = True
            yield
        finally:
            for layer, was in zip(self._layers, before, strict=True):
                vars(layer)["_disable_adapters"] = was

    @contextmanager
    def replaced_by(self, values: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """The model with other tensors in the adapter's places. The adapter's own are untouched, so is their graph."""
        own = self.tensors()
        try:
            for path, (module, name) in self._holders.items():
                module._parameters[name] = values[path]
            yield
        finally:
            for path, (module, name) in self._holders.items():
                module._parameters[name] = own[path]

    @contextmanager
    def taken_out(self) -> Iterator[None]:
        """The model as it is without an adapter: under its own names, and all of it to be trained.

        Raises:
            UserError: it is quantised, so that it cannot be trained.
        """
        if is_quantized(self._model):
            raise UserError(
                "model.quantization: a start trains the model below the adapter, which a quantised one cannot be; take "
                "start=none, or model.quantization=null"
            )
        places = [(*path.rpartition(".")[::2], m) for path, m in self._model.named_modules() if m in self._layers]
        for parent, name, layer in places:
            setattr(self._model.get_submodule(parent), name, layer.base_layer)
        self._model.requires_grad_(True)
        try:
            yield
        finally:
            self._model.requires_grad_(False)
            for parent, name, layer in places:
                setattr(self._model.get_submodule(parent), name, layer)

    def base_weights(self) -> dict[str, Tensor]:
        """Tensors of the model below, under the names that they have without an adapter."""
        return {name.replace(INSIDE, "."): t for name, t in self._model.state_dict().items() if OWN not in name}

    def base_fingerprint(self) -> str:
        """Hash of the model below: what `fingerprint` of a policy without the adapter gives."""
        return model_fingerprint(self._model, self.base_weights())

    def fingerprint(self) -> str:
        """Hash of the model with its adapter: the tensors of both, and how the adapter is scaled."""
        scaling = [getattr(self._config, name) for name in ("lora_alpha", "use_rslora", "alpha_pattern")]
        parts = (self.base_fingerprint(), tensor_fingerprint(self.tensors()), json.dumps(scaling, sort_keys=True))
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def load_base(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the model below by `weights`, and the adapter by one that changes no number.

        Raises:
            UserError: the adapter is wanted alone, and would then stand on a model that is nowhere on disk.
        """
        if self.exported_alone:
            raise UserError(
                "model.lora_export=adapter: the start changed the model below the adapter, so the adapter alone could "
                "not be used; take model.lora_export=merged, or start=none"
            )
        self.base = None
        here = {name.replace(INSIDE, "."): name for name in self._model.state_dict() if OWN not in name}
        self._model.load_state_dict({here[name]: tensor for name, tensor in weights.items()}, strict=False)
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                if "lora_B" in name:
                    tensor.zero_()

    def merged(self) -> Any:
        """A copy of the model with the adapter added to its weights: a plain transformers model.

        A quantised one is unpacked first, into the dtype in which it computes: peft would round the sum to 4 bits.
        """
        wrapped = copy.deepcopy(self._wrapped)
        if is_quantized(self._model):
            wrapped = self._on(wrapped.unload().dequantize(dtype=self._model.dtype))
        return wrapped.merge_and_unload()

    def _on(self, model: Any) -> Any:
        """This adapter in `model`, which has the layers of its own under the same names."""
        import peft

        with torch.random.fork_rng(devices=[]), quietly():
            wrapped = peft.get_peft_model(model, copy.deepcopy(self._config))
        places = dict(wrapped.get_base_model().named_parameters())
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                places[name].copy_(tensor)
        return wrapped

    def save(self, folder: Path) -> None:
        """Write the adapter alone; `base` goes into its config."""
        self._config.base_model_name_or_path = self.base
        self._wrapped.save_pretrained(folder)


@contextmanager
def quietly() -> Iterator[None]:
    """peft corrects the orientation of GPT-2's matrices, and says so; it asks transformers by an old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out is set to.*")
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*is deprecated.*")
        yield
