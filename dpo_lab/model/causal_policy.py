"""A causal language model as a policy: a response is many decisions, one a token."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.attention_choice import Attention, choose_attention
from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.dropout import restore_config_dropout, set_module_dropout
from dpo_lab.model.fingerprint import model_fingerprint
from dpo_lab.model.flex_attention import Kernel, choose_kernel, head_width
from dpo_lab.model.generation import draw_responses
from dpo_lab.model.grouped_scoring import collate_groups, grouped_distribution, grouped_log_prob, ungroup
from dpo_lab.model.loading import CAUSAL_LM, load_weights_into, read_weights
from dpo_lab.model.lora import LoraSettings, load_with_adapter
from dpo_lab.model.padded_scoring import collate_padded, padded_distribution, padded_log_prob
from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.model.positions import known_positions
from dpo_lab.model.quantization import Quantization
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.types import Encoded, Example, LogProbs

Dtype = Literal["float32", "bfloat16"]


@final
class CausalLM(Policy):
    """A causal language model of transformers and its tokenizer, as a policy.

    Where the model allows (`attention`), responses are packed behind their prompt, which is computed once for all of
    them, and nothing is padded. Otherwise rows are padded on the right, where a causal model cannot see it. Either way
    neither padding nor the other rows of a batch change a log-probability.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        dtype: Dtype,
        dropout: float,
        exported_dropout: dict[str, float],
        attention: Attention = "auto",
        adapter: Adapter | None = None,
        quantization: Quantization | None = None,
    ):
        super().__init__()
        self.model = model
        self.adapter = adapter
        self.tokenizer = tokenizer
        self.encoder = TextEncoder(tokenizer)
        self.dtype_name: Dtype = dtype
        self.dropout = dropout
        self.quantization: Quantization | None = quantization
        self._exported_dropout = exported_dropout
        self._wanted_attention: Attention = attention
        self.attention, self.attention_reason = choose_attention(
            model, attention, dropout=dropout if adapter is None else max(dropout, adapter.dropout)
        )
        set_module_dropout(model, dropout)
        if adapter is not None:
            adapter.set_dropout()
        # from_pretrained gives evaluation mode, which trainers keep: dropout would be configured and never happen.
        self.train()

    @property
    def scoring(self) -> str:
        words = {"shared": "each prompt once for all its responses", "packed": "packed", "padded": "row by row, padded"}
        return words[self.attention] + (f", since {self.attention_reason}" if self.attention_reason else "")

    @property
    def kernel(self) -> Kernel:
        """What attends over packed groups, where the model is now; the same while it trains and while it does not."""
        width = head_width(self.model.config.get_text_config())
        return choose_kernel(
            device_type=self.model.device.type, dtype=self.model.dtype, dropout=self.dropout, head_width=width
        )

    @property
    def end_id(self) -> int:
        return self.encoder.end_id

    @property
    def max_positions(self) -> int | None:
        return known_positions(self.model.config.get_text_config())

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return self.encoder.encode(examples)

    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """What `log_prob` eats: `collate_groups` or `collate_padded`.

        Raises:
            ValueError: for a prompt or a response without tokens: the first decision is made at the prompt's last.
        """
        if self.attention != "padded":
            return collate_groups(groups, is_shared=self.attention == "shared")
        return collate_padded(groups)

    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        return decision_mask(inputs["response_length"])

    def log_prob(self, inputs: Inputs) -> LogProbs:
        if self._is_grouped(inputs):
            return grouped_log_prob(self.model, inputs, kernel=self.kernel)
        return padded_log_prob(self.model, self._padded(inputs))

    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        if self._is_grouped(inputs):
            return grouped_distribution(self.model, inputs, kernel=self.kernel)
        return padded_distribution(self.model, self._padded(inputs))

    def _is_grouped(self, inputs: Inputs) -> bool:
        return "spans" in inputs and self.attention != "padded"

    def _padded(self, inputs: Inputs) -> Inputs:
        """`inputs` row by row: for a model that cannot attend by group beside one that collated for it."""
        if "spans" not in inputs:
            return inputs
        padded = collate_padded(ungroup(inputs))
        return {name: tensor.to(inputs["input_ids"].device) for name, tensor in padded.items()}

    def sample(self, prompts: Sequence[Encoded], *, generator: torch.Generator, max_new_tokens: int) -> list[list[int]]:
        return draw_responses(
            self.model,
            [prompt.prompt for prompt in prompts],
            end_id=self.end_id,
            generator=generator,
            max_new_tokens=max_new_tokens,
        )

    def decode_prompt(self, prompt: Encoded) -> str:
        return self.encoder.tokenizer.decode(list(prompt.prompt), skip_special_tokens=True)

    def decode(self, prompt: Encoded, response: Sequence[int]) -> str:
        return self.encoder.tokenizer.decode(list(response), skip_special_tokens=True)

    def load_other(self, path: str) -> "CausalLM":
        """Held as this one is: in its dtype, computed the way that is forced on this one, quantised where it is."""
        model, tokenizer, rates, adapter = load_with_adapter(
            path,
            CAUSAL_LM,
            LoraSettings(),
            0,
            dtype=self.dtype_name,
            dropout=self.dropout,
            quantization=self.quantization,
        )
        other = CausalLM(
            model,
            tokenizer,
            dtype=self.dtype_name,
            dropout=self.dropout,
            exported_dropout=rates,
            attention=self._wanted_attention,
            adapter=adapter,
            quantization=self.quantization,
        )
        if tokenizer.get_vocab() != self.encoder.tokenizer.get_vocab():
            raise UserError(
                f"{path} has another tokenizer than the policy, so their log-probabilities cannot be compared"
            )
        return other

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
        self.encoder.tokenizer.save_pretrained(folder)
        if self.adapter is not None and self.adapter.exported_alone:
            self.adapter.save(folder)
            return
        model = self.model if self.adapter is None else self.adapter.merged()
        applied = restore_config_dropout(model.config, self._exported_dropout)
        try:
            model.save_pretrained(folder)
        finally:
            restore_config_dropout(model.config, applied)

    def fingerprint(self) -> str:
        return model_fingerprint(self.model) if self.adapter is None else self.adapter.fingerprint()

    def computation(self) -> dict[str, str]:
        return {
            "model": type(self.model).__name__,
            "dtype": self.dtype_name,
            "attention": self.attention,
            "kernel": self.kernel,
            "device": self.model.device.type,
            "torch": torch.__version__,
            "transformers": version("transformers"),
            **self._how_quantized(),
        }

    def _how_quantized(self) -> dict[str, str]:
        if self.quantization is None:
            return {}
        return {"quantization": self.quantization, "bitsandbytes": version("bitsandbytes")}

    def encoding_fingerprint(self) -> str:
        return self.encoder.fingerprint()
