"""Random encoders of the kinds that differ in special tokens, positions and segments; a few thousand weights each."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dpo_lab.model.small_encoder import train_encoder_tokenizer

TEXTS = (
    "the goal of the match was late",
    "the bank sold a share of the stock",
    "a new level of the game is out",
    "the old coach left the team in march",
    "who sold the share ? the bank .",
)
CLASSES = ("sport", "money", "games")
COMMON: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,  # far from uniform, so that what is wrong shows
    "pad_token_id": 0,
}


@cache
def tokenizer_like_bert() -> Any:
    tokenizer = train_encoder_tokenizer(TEXTS, "pieces", 120)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return _with_template(tokenizer, "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")


@cache
def tokenizer_like_roberta() -> Any:
    """Two separators between the parts, and no segments."""
    tokenizer = train_encoder_tokenizer(TEXTS, "pieces", 120)
    return _with_template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]")


@cache
def tokenizer_like_gpt2() -> Any:
    """Nothing around a text."""
    tokenizer = train_encoder_tokenizer(TEXTS, "pieces", 120)
    return _with_template(tokenizer, "$A", "$A $B")


def _with_template(tokenizer: Any, single: str, pair: str) -> Any:
    from tokenizers import processors

    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=special
    )
    return tokenizer


def bert() -> tuple[Any, Any]:
    from transformers import BertConfig

    return BertConfig(**COMMON), tokenizer_like_bert()


def roberta() -> tuple[Any, Any]:
    from transformers import RobertaConfig

    return RobertaConfig(**COMMON, type_vocab_size=1), tokenizer_like_roberta()


def distilbert() -> tuple[Any, Any]:
    from transformers import DistilBertConfig

    return DistilBertConfig(**COMMON, dim=16, hidden_dim=24, n_layers=2, n_heads=2), tokenizer_like_roberta()


def modernbert() -> tuple[Any, Any]:
    """A window of 8 tokens in its second layer."""
    from transformers import ModernBertConfig

    ends: dict[str, Any] = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    config = ModernBertConfig(**COMMON, **ends, local_attention=8, layer_types=["full_attention", "sliding_attention"])
    return config, tokenizer_like_roberta()


def gpt2() -> tuple[Any, Any]:
    """It reads the last token, which it finds by the padding id."""
    from transformers import GPT2Config

    return GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.4), tokenizer_like_gpt2()


ENCODERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "bert": bert,
    "roberta": roberta,
    "distilbert": distilbert,
    "modernbert": modernbert,
    "gpt2": gpt2,
}


def write_encoder(folder: Path, name: str, auto_class: str, classes: tuple[str, ...] | None = CLASSES) -> Path:
    """A saved random model of the kind `name` with the head of `auto_class`."""
    import transformers

    config, tokenizer = ENCODERS[name]()
    config.vocab_size = len(tokenizer)
    if classes is not None:
        config.id2label = dict(enumerate(classes))
        config.label2id = {label: index for index, label in enumerate(classes)}
    torch.manual_seed(3)
    getattr(transformers, auto_class).from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
