"""A small classifier and its tokenizer, built on the spot: nothing is downloaded."""

from collections.abc import Sequence

from dpo_lab.errors import UserError
from dpo_lab.model.class_policy import SEQUENCE_CLASSIFIER, Classifier
from dpo_lab.model.classifier import NO_CLASSES
from dpo_lab.model.heads import name_classes
from dpo_lab.model.lora import LoraSettings, LoraTarget
from dpo_lab.model.small_encoder import Tokens, build_encoder, encoder_config, train_encoder_tokenizer
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, Positive, PositiveInt


def small_classifier(
    corpus: Sequence[str],
    classes: Sequence[str] | None,
    seed: int,
    adapter_seed: int | None = None,
    *,
    hidden_size: PositiveInt = 96,
    num_layers: PositiveInt = 1,
    num_heads: PositiveInt = 2,
    tokens: Tokens = "ngrams",
    longest_ngram: PositiveInt = 2,
    vocab_size: PositiveInt = 30000,
    max_positions: PositiveInt = 128,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    token_dropout: Fraction = 0.0,
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
) -> Classifier:
    """A random ModernBERT with a head for the data's classes, whose tokenizer is trained on the texts of the data.

    Args:
        corpus: texts that the tokenizer is trained on; the framework gives the training texts.
        classes: their names in order, as the data knows them; the framework gives them.
        seed: of the initial weights; the framework gives it.
        adapter_seed: of a fresh adapter, as in `causal_lm`; the framework gives it.
        hidden_size: width; a multiple of twice `num_heads`.
        num_layers: blocks.
        num_heads: attention heads.
        tokens: "characters", "pieces" of words as byte-pair encoding merges them, or "ngrams": every character and,
            over it, the n-grams of characters that begin there. What overlaps no tokenizer makes by itself: plain
            transformers takes texts as `dpo_lab.model.ngrams.spaced_ngrams` writes them.
        longest_ngram: characters of the longest of "ngrams".
        vocab_size: tokens, at most; those that stand in the corpus once are left out.
        max_positions: longest text, tokens.
        dtype: of the weights.
        dropout: every dropout rate, in [0, 1).
        token_dropout: share of the tokens of a text that are hidden while training, in [0, 1).
        lora_rank: of a low-rank adapter, as in `classifier`; null trains the whole model. It is exported merged: the
            model below it is nowhere on disk.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`.

    Raises:
        UserError: when sizes do not fit each other; when the data has no classes.
    """
    if classes is None:
        raise UserError(NO_CLASSES)
    tokenizer = train_encoder_tokenizer(corpus, tokens, vocab_size, longest_ngram)
    config = encoder_config(
        tokenizer, hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads, max_positions=max_positions
    )
    name_classes(config, classes)
    built = build_encoder(
        SEQUENCE_CLASSIFIER.auto_class,
        config,
        LoraSettings(rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target),
        seed=seed,
        adapter_seed=seed if adapter_seed is None else adapter_seed,
        dtype=dtype,
        dropout=dropout,
    )
    return Classifier(
        built.model,
        tokenizer,
        dtype=dtype,
        dropout=dropout,
        token_dropout=token_dropout,
        exported_dropout=built.dropout_rates,
        adapter=built.adapter,
        has_fresh_head=True,
    )
