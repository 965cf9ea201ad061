"""Random encoder-decoder models of the kinds that differ in how a decoder begins; a few thousand weights each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import decoders, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.model.tokenizers import SIZE, train

BOS_SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def t5() -> tuple[Any, PreTrainedTokenizerFast]:
    """Begins with the padding token; the tokenizer writes EOS behind a text and nothing before it."""
    from transformers import T5Config

    # Not the Unigram of the original, whose training is not the same twice.
    tokenizer = train(pre_tokenizers.Metaspace(), decoders.Metaspace(), ["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    ids: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=SIZE, **sizes, **ids, initializer_factor=1.5)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return config, PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def bart() -> tuple[Any, PreTrainedTokenizerFast]:
    """Begins with EOS; then a BOS, which the tokenizer writes before every text; learned positions; three dropouts."""
    from transformers import BartConfig

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    layers: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2}
    widths: dict[str, Any] = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "decoder_attention_heads": 2}
    ids: dict[str, Any] = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = BartConfig(vocab_size=SIZE, max_position_embeddings=64, init_std=0.4, **layers, **widths, **ids)
    return config, PreTrainedTokenizerFast(tokenizer_object=tokenizer, **BOS_SPECIAL)


MODELS: dict[str, Callable[[], tuple[Any, PreTrainedTokenizerFast]]] = {"t5": t5, "bart": bart}


def write_seq2seq(folder: Path, name: str) -> Path:
    """Save a random model of this kind with its tokenizer, as transformers does."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model, tokenizer = random_seq2seq(name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_seq2seq(name: str, *, vocab_size: int = SIZE) -> tuple[Any, Any]:
    """A model of this kind in evaluation mode, and a tokenizer, which may know more tokens than the model."""
    from transformers import AutoModelForSeq2SeqLM

    config, tokenizer = MODELS[name]()
    config.vocab_size = vocab_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForSeq2SeqLM.from_config(config).eval(), tokenizer
