"""What policies have in common that read a text as a whole: a transformers encoder with a head, and its tokenizer."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.causal_policy import Dtype
from dpo_lab.model.dropout import restore_config_dropout, set_module_dropout
from dpo_lab.model.fingerprint import model_fingerprint
from dpo_lab.model.loading import load_weights_into, read_weights
from dpo_lab.model.policy import Policy
from dpo_lab.model.positions import known_positions

UNBOUNDED = 10**6
"""Tokenizers that know of no limit give 10^30 or so."""


class EncoderPolicy(Policy):
    """A transformers encoder with a head.

    `has_fresh_head`: the head was drawn and has learnt nothing.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        dtype: Dtype,
        dropout: float,
        exported_dropout: dict[str, float],
        adapter: Adapter | None = None,
        has_fresh_head: bool = False,
    ):
        super().__init__()
        self.model = model
        self.tokenizer: Any = tokenizer
        self.adapter = adapter
        self.dtype_name: Dtype = dtype
        self.dropout = dropout
        self.has_fresh_head = has_fresh_head
        self._exported_dropout = exported_dropout
        if model.config.pad_token_id is None:  # models that look for the last token of a text find it by this
            model.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.num_begin, self.num_end = special_ends(tokenizer)
        set_module_dropout(model, dropout)
        if adapter is not None:
            adapter.set_dropout()
        # from_pretrained gives evaluation mode, which trainers keep: dropout would be configured and never happen.
        self.train()

    @property
    def end_id(self) -> None:
        return None

    @property
    def max_positions(self) -> int | None:
        config = self.model.config.get_text_config()
        limits = [known_positions(config)]
        if limits[0] is not None and config.model_type in COUNT_FROM_PAD:
            limits = [limits[0] - config.pad_token_id - 1]
        if self.tokenizer.model_max_length < UNBOUNDED:
            limits.append(self.tokenizer.model_max_length)
        return min((limit for limit in limits if limit is not None), default=None)

    def pad(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """`input_ids[r, l]` and `attention_mask[r, l]`, padded on the right."""
        width = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), width), self.model.config.pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = torch.tensor(row)
            attention_mask[index, : len(row)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

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
        self.tokenizer.save_pretrained(folder)
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
            "attention": str(self.model.config._attn_implementation),
            "device": self.model.device.type,
            "torch": torch.__version__,
            "transformers": version("transformers"),
        }

    def check_same_tokens(self, other: "EncoderPolicy", path: str) -> None:
        """
        Raises:
            UserError: `other`, from `path`, has another tokenizer.
        """
        if other.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(
                f"{path} has another tokenizer than the policy, so their log-probabilities cannot be compared"
            )

    def _fingerprint_of_tokens(self, **parts: Any) -> str:
        """Hash of the tokenizer, and of `parts`, which are what else ids depend on."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for transient in ("truncation", "padding"):  # calls switch these on and off; encode never uses them
            state.pop(transient, None)
        special = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        content = json.dumps({"tokenizer": state, "special": special, **parts}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


COUNT_FROM_PAD = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "longformer"}
)
"""Kinds of model whose first position stands behind that of the padding id: they know fewer than their table has."""


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
