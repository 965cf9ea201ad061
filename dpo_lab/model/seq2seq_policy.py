"""An encoder-decoder model as a policy: the prompt is encoded, a response is many decisions of the decoder."""

from collections.abc import Sequence
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
from dpo_lab.model.seq2seq_encoding import Seq2SeqEncoder
from dpo_lab.model.seq2seq_scoring import collate_seq2seq, seq2seq_distribution, seq2seq_log_prob
from dpo_lab.model.transformers_policy import Dtype, TransformersPolicy
from dpo_lab.types import Encoded, Example, LogProbs

SEQ2SEQ = ModelKind("sequence-to-sequence model", "AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM")
LIMITS = ("max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings")


@final
class Seq2SeqLM(TransformersPolicy):
    """An encoder-decoder model of transformers and its tokenizer, as a policy.

    The encoder runs once for each prompt, whatever the number of its responses; with dropout once for each response,
    since one pass would share its noise. The decoder begins with `decoder_start`, of which no token is a decision; the
    decisions are the tokens of the response and its end-of-sequence token.
    """

    kind: ClassVar[ModelKind] = SEQ2SEQ

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        dtype: Dtype,
        dropout: float,
        exported_dropout: dict[str, float],
        adapter: Adapter | None = None,
    ):
        """
        Raises:
            UserError: the model does not say what its decoder begins with; the tokenizer has no end-of-sequence token.
        """
        super().__init__(
            model, tokenizer, dtype=dtype, dropout=dropout, exported_dropout=exported_dropout, adapter=adapter
        )
        self.encoder = Seq2SeqEncoder(tokenizer)
        self.decoder_start = _decoder_start(model, self.encoder.decoder_head)
        self.is_shared = self.largest_dropout == 0

    @property
    def scoring(self) -> str:
        if self.is_shared:
            return "each prompt encoded once for all its responses, which are padded"
        return "each prompt encoded once for each response, since dropout is on and would be shared; padded"

    @property
    def end_id(self) -> int:
        return self.encoder.end_id

    @property
    def max_positions(self) -> int | None:
        """Of encoder and decoder the smaller number, although prompt and response do not stand in one row."""
        config = self.model.config
        limits = [limit for name in LIMITS if (limit := getattr(config, name, None)) is not None]
        return min(limits, default=None)

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return self.encoder.encode(examples)

    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """What `log_prob` eats: `collate_seq2seq`.

        Raises:
            ValueError: for a prompt or a response without tokens.
        """
        return collate_seq2seq(groups, self.decoder_start, is_shared=self.is_shared)

    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        return decision_mask(inputs["response_length"])

    def log_prob(self, inputs: Inputs) -> LogProbs:
        return seq2seq_log_prob(self.model, inputs)

    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        return seq2seq_distribution(self.model, inputs)

    def sample(self, prompts: Sequence[Encoded], *, generator: torch.Generator, max_new_tokens: int) -> list[list[int]]:
        return draw_responses(
            self.model,
            [prompt.prompt for prompt in prompts],
            end_id=self.end_id,
            generator=generator,
            max_new_tokens=max_new_tokens,
            decoder_start=self.decoder_start,
        )

    def encoding_fingerprint(self) -> str:
        return self.encoder.fingerprint()

    def _alike(self, loaded: Loaded) -> "Seq2SeqLM":
        return Seq2SeqLM(
            loaded.model,
            loaded.tokenizer,
            dtype=self.dtype_name,
            dropout=self.dropout,
            exported_dropout=loaded.dropout_rates,
            adapter=loaded.adapter,
        )

    def _ways(self) -> dict[str, str]:
        return {"decoder_start": " ".join(map(str, self.decoder_start))}


def _decoder_start(model: Any, decoder_head: tuple[int, ...]) -> tuple[int, ...]:
    """What stands in the decoder before the first decision: its start token, then what the model may not choose.

    That is the token which generation forces to the first place, where the model names one, else `decoder_head`.

    Raises:
        UserError: the model names no start token.
    """
    config, generation = model.config, getattr(model, "generation_config", None)
    named = [getattr(place, "decoder_start_token_id", None) for place in (config, generation)]
    start = next((found for found in named if found is not None), None)
    if start is None:
        raise UserError(
            "the model does not say what its decoder begins with; set decoder_start_token_id in its config.json"
        )
    forced = getattr(generation, "forced_bos_token_id", None)
    head = decoder_head if forced is None else (forced,)
    return (start, *head) if head[:1] != (start,) else head
