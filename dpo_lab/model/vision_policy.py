"""A model that reads texts and pictures, and writes text, as a policy: a response is many decisions, one a token."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.generation import draw_responses
from dpo_lab.model.loading import ModelKind
from dpo_lab.model.lora import Loaded
from dpo_lab.model.policy import Inputs
from dpo_lab.model.positions import known_positions
from dpo_lab.model.transformers_policy import Dtype, TransformersPolicy
from dpo_lab.model.vision_encoding import VisionEncoder, left_padded
from dpo_lab.model.vision_scoring import as_read, collate_texts, right_padded, rows_of, vision_choices, vision_log_prob
from dpo_lab.reductions import Choices
from dpo_lab.types import Encoded, Example, LogProbs

VISION_LANGUAGE = ModelKind("vision-language model", "AutoModelForImageTextToText", "CAUSAL_LM", "AutoProcessor")


@final
class VisionLanguageModel(TransformersPolicy):
    """A vision-language model of transformers and its processor, as a policy.

    Rows are padded on the right, where a causal model cannot see it. Each row has the pictures of its prompt, which
    the model puts in the place of the tokens that stand for them; these are read and never decided. A drawn response
    that says such a token is left there, since nothing could follow it.
    """

    kind: ClassVar[ModelKind] = VISION_LANGUAGE

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        dtype: Dtype,
        dropout: float,
        exported_dropout: dict[str, float],
        adapter: Adapter | None = None,
    ):
        """
        Raises:
            UserError: the processor is of a kind that cannot be used, and why.
        """
        super().__init__(
            model, processor.tokenizer, dtype=dtype, dropout=dropout, exported_dropout=exported_dropout, adapter=adapter
        )
        self.encoder = VisionEncoder(processor, model)

    @property
    def scoring(self) -> str:
        return "row by row, padded, since pictures stand at places of their own in each row"

    @property
    def end_id(self) -> int:
        return self.encoder.text.end_id

    @property
    def max_positions(self) -> int | None:
        return known_positions(self.model.config.get_text_config())

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """Where pictures are taken from an inner layer of what sees them, as LLaVA does: what comes behind it."""
        config = self.model.config
        layer = getattr(config, "vision_feature_layer", None)
        num_layers = getattr(getattr(config, "vision_config", None), "num_hidden_layers", None)
        if layer is None or num_layers is None:
            return ()
        taken = [number if number >= 0 else num_layers + 1 + number for number in _as_list(layer)]
        behind = [f"*vision_tower*.layers.{number}.*" for number in range(max(taken), num_layers)]
        return (*behind, "*vision_tower*.post_layernorm.*", "*vision_tower*.head.*")

    @property
    def reached_by_images(self) -> tuple[str, ...]:
        """All but what reads: the language model, with its embeddings and its head."""
        reading = [self.model.get_decoder(), self.model.get_input_embeddings(), self.model.get_output_embeddings()]
        read = {id(parameter) for module in reading if module is not None for parameter in module.parameters()}
        return tuple(name for name, parameter in self.named_parameters() if id(parameter) not in read)

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return self.encoder.encode(examples)

    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """What `log_prob` eats: `collate_texts`, which tokens stand for pictures, and the pixels of each row.

        Raises:
            ValueError: for a prompt or a response without tokens; for a response that goes on behind a token in whose
                place a picture would be put.
            UserError: a picture is no longer what it was when the data was read.
        """
        inputs, rows = collate_texts(groups), rows_of(groups)
        placeholders = {*self.encoder.placeholders}
        if any(token in placeholders for group in groups for response in group.responses for token in response[:-1]):
            raise ValueError("nothing can be said behind a token in whose place a picture would be put")
        types = self.encoder.token_types(rows)
        if types is not None:
            inputs[types[0]] = right_padded(types[1])
        return {**inputs, **self.encoder.pixels([group.images for group in groups for _ in group.responses])}

    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        return decision_mask(inputs["response_length"])

    def log_prob(self, inputs: Inputs) -> LogProbs:
        return vision_log_prob(self.model, inputs)

    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        log_probs, choices = self.log_prob_and_choices(inputs)
        return log_probs, choices.dense()

    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        return vision_choices(self.model, inputs)

    def sample(self, prompts: Sequence[Encoded], *, generator: torch.Generator, max_new_tokens: int) -> list[list[int]]:
        extra = self.encoder.pixels([prompt.images for prompt in prompts])
        types = self.encoder.token_types([prompt.prompt for prompt in prompts])
        if types is not None:
            extra[types[0]] = left_padded(types[1])
        return draw_responses(
            self.model,
            [prompt.prompt for prompt in prompts],
            end_id=self.end_id,
            generator=generator,
            max_new_tokens=max_new_tokens,
            extra=as_read(self.model, extra),
            stop_ids=self.encoder.placeholders,
        )

    def decode_prompt(self, prompt: Encoded) -> str:
        """Its text, behind the names of the pictures that it shows."""
        placeholders = {*self.encoder.placeholders}
        text = self.tokenizer.decode(
            [token for token in prompt.prompt if token not in placeholders], skip_special_tokens=True
        )
        return "".join(f"[{Path(image.path).name}] " for image in prompt.images) + text

    def encoding_fingerprint(self) -> str:
        return self.encoder.fingerprint()

    def _save_encoding(self, folder: Path) -> None:
        self.encoder.processor.save_pretrained(folder)

    def _alike(self, loaded: Loaded) -> "VisionLanguageModel":
        policy = VisionLanguageModel(
            loaded.model,
            loaded.tokenizer,
            dtype=self.dtype_name,
            dropout=self.dropout,
            exported_dropout=loaded.dropout_rates,
            adapter=loaded.adapter,
        )
        if policy.encoder.image_settings() != self.encoder.image_settings():
            raise UserError(
                "reference.path: that model prepares images otherwise than the policy does (preprocessor_config.json "
                "or processor_config.json), so it cannot be shown the same pixels"
            )
        return policy

    def _ways(self) -> dict[str, str]:
        settings = self.encoder.image_settings()
        return {"images": hashlib.sha256(settings.encode()).hexdigest()[:16], "pillow": version("pillow")}


def _as_list(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
