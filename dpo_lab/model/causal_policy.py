"""A causal language model as a policy: a response is many decisions, one a token."""

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dpo_lab.model.adapter import Adapter
from dpo_lab.model.attention_choice import Attention, choose_attention
from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.flex_attention import Kernel, choose_kernel, head_width
from dpo_lab.model.generation import draw_responses
from dpo_lab.model.grouped_scoring import collate_groups, grouped_choices, grouped_log_prob, ungroup
from dpo_lab.model.loading import CAUSAL_LM, ModelKind
from dpo_lab.model.lora import Loaded
from dpo_lab.model.padded_scoring import collate_padded, padded_choices, padded_log_prob
from dpo_lab.model.policy import Inputs
from dpo_lab.model.positions import known_positions
from dpo_lab.model.quantization import Quantization
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.model.transformers_policy import Dtype, TransformersPolicy
from dpo_lab.reductions import Choices
from dpo_lab.types import Encoded, Example, LogProbs


@final
class CausalLM(TransformersPolicy):
    """A causal language model of transformers and its tokenizer, as a policy.

    Where the model allows (`attention`), responses are packed behind their prompt, which is computed once for all of
    them, and nothing is padded. Otherwise rows are padded on the right, where a causal model cannot see it. Either way
    neither padding nor the other rows of a batch change a log-probability.
    """

    kind: ClassVar[ModelKind] = CAUSAL_LM

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
        super().__init__(
            model,
            tokenizer,
            dtype=dtype,
            dropout=dropout,
            exported_dropout=exported_dropout,
            adapter=adapter,
            quantization=quantization,
        )
        self.encoder = TextEncoder(tokenizer)
        self._wanted_attention: Attention = attention
        self.attention, self.attention_reason = choose_attention(model, attention, dropout=self.largest_dropout)

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
        log_probs, choices = self.log_prob_and_choices(inputs)
        return log_probs, choices.dense()

    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        if self._is_grouped(inputs):
            return grouped_choices(self.model, inputs, kernel=self.kernel)
        return padded_choices(self.model, self._padded(inputs))

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

    def _alike(self, loaded: Loaded) -> "CausalLM":
        return CausalLM(
            loaded.model,
            loaded.tokenizer,
            dtype=self.dtype_name,
            dropout=self.dropout,
            exported_dropout=loaded.dropout_rates,
            attention=self._wanted_attention,
            adapter=loaded.adapter,
            quantization=self.quantization,
        )

    def _ways(self) -> dict[str, str]:
        return {"attention": self.attention, "kernel": self.kernel}

    def encoding_fingerprint(self) -> str:
        return self.encoder.fingerprint()
