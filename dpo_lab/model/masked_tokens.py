"""An encoder under a head that guesses hidden tokens: what it can learn from texts alone."""

import copy
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dpo_lab.errors import UserError
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.token_noise import hidden_spans


@final
class MaskedTokens(nn.Module):
    """Shares the encoder of a policy; its own is the head, drawn anew, tied to the embedding as transformers ties it.

    Masked language modelling (Devlin et al. 2019, arXiv 1810.04805), with spans instead of single tokens (Joshi et al.
    2020, arXiv 1907.10529), and only hidden positions are put through the head.
    """

    def __init__(self, policy: EncoderPolicy, seed: int):
        """`seed` is that of the head.

        Raises:
            UserError: transformers has no such head for this kind of model, or the tokenizer has no mask.
        """
        super().__init__()
        from transformers import AutoModelForMaskedLM

        if policy.tokenizer.mask_token_id is None:
            raise UserError("start=masked_tokens: the tokenizer has no mask token; use start=none or start=supervised")
        own = policy.model
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                masked = AutoModelForMaskedLM.from_config(copy.deepcopy(own.config)).to(own.dtype)
        except ValueError as error:
            raise UserError(
                f"start=masked_tokens: transformers guesses no masked tokens with a {own.config.model_type} model; use "
                "start=none or start=supervised"
            ) from error
        self._tokenizer = policy.tokenizer
        self._pad = policy.pad
        self.encoder: nn.Module = getattr(own, own.base_model_prefix)
        # The head belongs to a model whose forward pass puts all tokens through it. It is given hidden ones instead.
        setattr(masked, masked.base_model_prefix, self.encoder)
        masked.tie_weights()
        self._given = _Given()
        setattr(masked, masked.base_model_prefix, self._given)
        self.head: Any = masked
        self.train()

    def forward(
        self, texts: Sequence[Sequence[int]], *, share: float, length: int, generator: torch.Generator
    ) -> Tensor:
        """Mean of -log p over the hidden tokens of `texts`, nats; 0 where none is hidden.

        Args:
            texts: ids of each, special ones included.
            share: of the tokens that are hidden, in (0, 1).
            length: of the spans that are hidden together.
            generator: draws which.
        """
        device = next(self.encoder.parameters()).device
        inputs = {name: tensor.to(device) for name, tensor in self._pad(texts).items()}
        ids = inputs["input_ids"]
        special = torch.tensor(self._tokenizer.all_special_ids, device=device)
        hidden = hidden_spans((inputs["attention_mask"] > 0) & ~torch.isin(ids, special), share, length, generator)
        inputs["input_ids"] = ids.masked_fill(hidden, self._tokenizer.mask_token_id)
        self._given.states = self.encoder(**inputs).last_hidden_state[hidden][None]
        if not hidden.any():
            return self._given.states.sum() * 0
        logits = self.head(input_ids=ids[hidden][None]).logits[0]
        return cross_entropy(logits.float(), ids[hidden])


@final
class _Given(nn.Module):
    """Stands in the encoder's place and gives what it is told."""

    states: Tensor

    def forward(self, *args: Any, **options: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.states)  # type: ignore[arg-type]
