"""What policies have in common that read a text as a whole: a transformers encoder with a head, and its tokenizer."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dpo_lab.errors import UserError
from dpo_lab.model.positions import longest_text
from dpo_lab.model.reading import Reading
from dpo_lab.model.transformers_policy import TransformersPolicy
from dpo_lab.types import Encoded, Example


class EncoderPolicy(TransformersPolicy):
    """A transformers encoder with a head.

    `has_fresh_head`: the head was drawn and has learnt nothing.
    """

    writes_text: ClassVar[bool] = False

    def __init__(self, model: Any, tokenizer: Any, *, has_fresh_head: bool = False, **options: Any):
        """`options` are those of `TransformersPolicy`."""
        super().__init__(model, tokenizer, **options)
        self.has_fresh_head = has_fresh_head
        if model.config.pad_token_id is None:  # models that look for the last token of a text find it by this
            model.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.num_begin, self.num_end = special_ends(tokenizer)

    @property
    def end_id(self) -> None:
        return None

    @property
    def max_positions(self) -> int | None:
        return longest_text(self.model.config.get_text_config(), self.tokenizer)

    @property
    def longest_row(self) -> int | None:
        """Tokens that the model itself can read at a time; None where nothing bounds it."""
        return self.max_positions

    @property
    def embedding(self) -> nn.Module:
        """The layer that gives each token its vector."""
        return self.model.get_input_embeddings()

    @property
    def hiding_id(self) -> int:
        """Stands where a token is hidden: the mask; of a tokenizer without one the unknown token, else the padding."""
        known = (self.tokenizer.mask_token_id, self.tokenizer.unk_token_id, self.model.config.pad_token_id)
        return next(token for token in known if token is not None)

    @abstractmethod
    def reading(self, example: Example, encoded: Encoded) -> Reading:
        """What `collate` of `encoded`, which is `example` with or without its end, has the model read."""

    def pad(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """`input_ids[r, l]` and `attention_mask[r, l]`, padded on the right."""
        width = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), width), self.model.config.pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = torch.tensor(row)
            attention_mask[index, : len(row)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def _ways(self) -> dict[str, str]:
        return {"attention": str(self.model.config._attn_implementation)}

    def _fingerprint_of_tokens(self, **parts: Any) -> str:
        """Hash of the tokenizer, and of `parts`, which are what else ids depend on."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for transient in ("truncation", "padding"):  # calls switch these on and off; encode never uses them
            state.pop(transient, None)
        special = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        content = json.dumps({"tokenizer": state, "special": special, **parts}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def special_ends(tokenizer: Any) -> tuple[int, int]:
    """How many tokens the tokenizer puts in front of a text, and how many behind it.

    Raises:
        UserError: what it puts around a text cannot be told from the text.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return begin, len(whole) - len(bare) - begin
    raise UserError("the tokenizer changes a text when it puts special tokens around it, so it cannot be cut safely")
