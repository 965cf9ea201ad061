"""A small T5-style model and a byte-level BPE tokenizer, built on the spot: nothing is downloaded."""

from collections.abc import Sequence
from typing import Any

import torch

from dpo_lab.model.dropout import set_config_dropout
from dpo_lab.model.lora import LoraSettings, LoraTarget, add_adapter
from dpo_lab.model.seq2seq_policy import SEQ2SEQ, Seq2SeqLM
from dpo_lab.model.tiny import train_tokenizer
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, Positive, PositiveInt


def small_seq2seq(
    corpus: Sequence[str],
    seed: int,
    adapter_seed: int | None = None,
    *,
    hidden_size: PositiveInt = 96,
    num_layers: PositiveInt = 2,
    num_heads: PositiveInt = 4,
    vocab_size: PositiveInt = 512,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
) -> Seq2SeqLM:
    """A random T5 of under a million parameters whose tokenizer is trained on the texts of the data.

    As in T5 the decoder begins with the padding token, positions are relative and without limit, and EOS ends what the
    encoder reads.

    Args:
        corpus: texts that the tokenizer is trained on; the framework gives the training texts.
        seed: of the initial weights; the framework gives it.
        adapter_seed: of a fresh adapter, as in `causal_lm`.
        hidden_size: width.
        num_layers: blocks of the encoder, and of the decoder.
        num_heads: attention heads, each of width hidden_size / num_heads, rounded up.
        vocab_size: tokens, at least 259: every byte and three special ones.
        dtype: of the weights.
        dropout: every dropout rate, in [0, 1).
        lora_rank: of a low-rank adapter, as in `causal_lm`; null trains the whole model.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`.

    Raises:
        UserError: when sizes do not fit each other.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    settings = LoraSettings(rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target)
    settings.check(None)
    tokenizer = train_tokenizer(corpus, vocab_size, around="$A </s>")
    ids: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    config = T5Config(
        vocab_size=vocab_size,
        d_model=hidden_size,
        d_kv=-(-hidden_size // num_heads),
        d_ff=2 * hidden_size,
        num_layers=num_layers,
        num_decoder_layers=num_layers,
        num_heads=num_heads,
        **ids,
    )
    rates = set_config_dropout(config, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the generators of GPUs as well
        model = T5ForConditionalGeneration(config).to(getattr(torch, dtype))
    drawn_from = seed if adapter_seed is None else adapter_seed
    adapter = None
    if lora_rank is not None:
        adapter = add_adapter(model, settings, drawn_from, base=None, task=SEQ2SEQ.task)
    return Seq2SeqLM(model, tokenizer, dtype=dtype, dropout=dropout, exported_dropout=rates, adapter=adapter)
