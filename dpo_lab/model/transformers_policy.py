"""What every policy around one model of transformers shares: reading, writing, hashing, dropout, an adapter."""

from abc import abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.dropout import restore_config_dropout, set_module_dropout
from dpo_lab.model.fingerprint import model_fingerprint
from dpo_lab.model.loading import ModelKind, load_weights_into, read_weights
from dpo_lab.model.lora import Loaded, LoraSettings, load_with_adapter
from dpo_lab.model.policy import Policy
from dpo_lab.model.quantization import Quantization
from dpo_lab.types import Encoded

Dtype = Literal["float32", "bfloat16"]


class TransformersPolicy(Policy):
    """A model of transformers and its tokenizer. `kind`: how transformers loads such a model."""

    kind: ClassVar[ModelKind]
    writes_text: ClassVar[bool] = True
    tokenizer: Any

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        dtype: Dtype,
        dropout: float,
        exported_dropout: dict[str, float],
        adapter: Adapter | None = None,
        quantization: Quantization | None = None,
    ):
        """`dtype` and `dropout` are those of the model as it is; `exported_dropout` the rates that it came with."""
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.adapter = adapter
        self.dtype_name: Dtype = dtype
        self.dropout = dropout
        self.quantization: Quantization | None = quantization
        self._exported_dropout = exported_dropout
        set_module_dropout(model, dropout)
        if adapter is not None:
            adapter.set_dropout()
        # from_pretrained gives evaluation mode, which trainers keep: dropout would be configured and never happen.
        self.train()

    @property
    def largest_dropout(self) -> float:
        """Of the model and of its adapter, in [0, 1)."""
        return self.dropout if self.adapter is None else max(self.dropout, self.adapter.dropout)

    def decode_prompt(self, prompt: Encoded) -> str:
        return self.tokenizer.decode(list(prompt.prompt), skip_special_tokens=True)

    def decode(self, prompt: Encoded, response: Sequence[int]) -> str:
        return self.tokenizer.decode(list(response), skip_special_tokens=True)

    def load_other(self, path: str) -> "TransformersPolicy":
        """Held as this one is: in its dtype, computed the way that is forced on this one, quantised where it is."""
        options: dict[str, Any] = {"dtype": self.dtype_name, "dropout": self.dropout, "quantization": self.quantization}
        loaded = load_with_adapter(path, self.kind, LoraSettings(), 0, **options)
        if getattr(loaded.tokenizer, "tokenizer", loaded.tokenizer).get_vocab() != self.tokenizer.get_vocab():
            raise UserError(
                f"{path} has another tokenizer than the policy, so their log-probabilities cannot be compared"
            )
        return self._alike(loaded)

    @abstractmethod
    def _alike(self, loaded: Loaded) -> "TransformersPolicy":
        """A policy around another model that computes as this one does."""

    def load_weights(self, folder: Path) -> None:
        if self.adapter is None:
            load_weights_into(self.model, folder)
        else:
            self.adapter.load_base(read_weights(self.model, folder))

    def export(self, folder: Path) -> None:
        """Write model and tokenizer in transformers' format, with the dropout rates that the model came with.

        An adapter is added into the model's weights, or written alone in peft's format where that is wanted.
        """
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self._save_encoding(folder)
        if self.adapter is not None and self.adapter.exported_alone:
            self.adapter.save(folder)
            return
        model = self.model if self.adapter is None else self.adapter.merged()
        applied = restore_config_dropout(model.config, self._exported_dropout)
        try:
            model.save_pretrained(folder)
        finally:
            restore_config_dropout(model.config, applied)

    def _save_encoding(self, folder: Path) -> None:
        """Write what turns texts into tokens."""
        self.tokenizer.save_pretrained(folder)

    def fingerprint(self) -> str:
        return model_fingerprint(self.model) if self.adapter is None else self.adapter.fingerprint()

    def computation(self) -> dict[str, str]:
        return {
            "model": type(self.model).__name__,
            "dtype": self.dtype_name,
            **self._ways(),
            "device": self.model.device.type,
            "torch": torch.__version__,
            "transformers": version("transformers"),
            **self._how_quantized(),
        }

    def _ways(self) -> dict[str, str]:
        """What of `computation` only this kind of policy has."""
        return {}

    def _how_quantized(self) -> dict[str, str]:
        if self.quantization is None:
            return {}
        return {"quantization": self.quantization, "bitsandbytes": version("bitsandbytes")}
