"""A small span reader and its tokenizer, built on the spot: nothing is downloaded."""

from collections.abc import Sequence

from dpo_lab.model.lora import LoraSettings, LoraTarget
from dpo_lab.model.small_encoder import Pieces, build_encoder, encoder_config, train_encoder_tokenizer
from dpo_lab.model.span_policy import SPAN_READER, SpanReader
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, NonNegativeInt, Positive, PositiveInt


def small_extractive_qa(
    corpus: Sequence[str],
    seed: int,
    adapter_seed: int | None = None,
    *,
    window: PositiveInt = 256,
    stride: NonNegativeInt = 64,
    hidden_size: PositiveInt = 96,
    num_layers: PositiveInt = 2,
    num_heads: PositiveInt = 4,
    tokens: Pieces = "pieces",
    vocab_size: PositiveInt = 4000,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
) -> SpanReader:
    """A random ModernBERT that reads spans, whose tokenizer is trained on the questions and passages of the data.

    Args:
        corpus: texts that the tokenizer is trained on; the framework gives the training texts.
        seed: of the initial weights; the framework gives it.
        adapter_seed: of a fresh adapter, as in `causal_lm`; the framework gives it.
        window: tokens that the model reads at a time, as in `extractive_qa`.
        stride: as in `extractive_qa`.
        hidden_size: width; a multiple of twice `num_heads`.
        num_layers: blocks.
        num_heads: attention heads.
        tokens: "characters", or "pieces" of words as byte-pair encoding merges them.
        vocab_size: tokens, at most; those that stand in the corpus once are left out.
        dtype: of the weights.
        dropout: every dropout rate, in [0, 1).
        lora_rank: as in `small_classifier`.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`.

    Raises:
        UserError: when sizes do not fit each other.
    """
    tokenizer = train_encoder_tokenizer(corpus, tokens, vocab_size)
    config = encoder_config(
        tokenizer, hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads, max_positions=window
    )
    built = build_encoder(
        SPAN_READER.auto_class,
        config,
        LoraSettings(rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target),
        seed=seed,
        adapter_seed=seed if adapter_seed is None else adapter_seed,
        dtype=dtype,
        dropout=dropout,
    )
    return SpanReader(
        built.model,
        tokenizer,
        window=window,
        stride=stride,
        dtype=dtype,
        dropout=dropout,
        exported_dropout=built.dropout_rates,
        adapter=built.adapter,
        has_fresh_head=True,
    )
