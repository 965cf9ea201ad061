"""A small random encoder and its tokenizer, built on the spot: what small classifiers and span readers stand on."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.dropout import set_config_dropout
from dpo_lab.model.lora import LoraSettings, add_adapter
from dpo_lab.model.ngrams import KEY as NGRAMS
from dpo_lab.model.ngrams import commonest_ngrams

Tokens = Literal["characters", "pieces", "ngrams"]
Pieces = Literal["characters", "pieces"]
"""Tokens that do not overlap, so that each has its place in the text."""

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "unk_token": "[UNK]",
}
MIN_COUNT = 2
"""A character or piece that stands in the corpus once would be learnt from one text; it is unknown instead."""


def encoder_config(tokenizer: Any, *, hidden_size: int, num_layers: int, num_heads: int, max_positions: int) -> Any:
    """ModernBERT's config (Warner et al. 2024, arXiv 2412.13663) in a small size, every layer with full attention.

    It is chosen for its mean over the tokens as what a classifier reads, which learns from few texts, and since plain
    transformers knows it for masked tokens, classes and spans alike.

    Raises:
        UserError: when sizes do not fit each other.
    """
    from transformers import ModernBertConfig

    if hidden_size % (2 * num_heads):
        raise UserError(f"model.hidden_size: {hidden_size} is not a multiple of 2 * model.num_heads = {2 * num_heads}")
    return ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        max_position_embeddings=max_positions,
        layer_types=["full_attention"] * num_layers,
        classifier_pooling="mean",
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )


class Built(NamedTuple):
    """A random model, the dropout rates of its config before they were set, and its fresh adapter if one is wanted."""

    model: Any
    dropout_rates: dict[str, float]
    adapter: Adapter | None


def build_encoder(
    auto_class: str, config: Any, settings: LoraSettings, *, seed: int, adapter_seed: int, dtype: str, dropout: float
) -> Built:
    """The model of `auto_class` that `config` describes, with weights drawn from `seed`."""
    import transformers

    settings.check(None)
    rates = set_config_dropout(config, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the generators of GPUs as well
        model = getattr(transformers, auto_class).from_config(config).to(getattr(torch, dtype))
    wanted = settings.rank is not None
    adapter = add_adapter(model, settings, adapter_seed, base=None, task=None) if wanted else None
    return Built(model, rates, adapter)


def train_encoder_tokenizer(corpus: Sequence[str], tokens: Tokens, vocab_size: int, longest_ngram: int = 2) -> Any:
    """A tokenizer over `corpus` that puts ``[CLS]`` in front of a text and ``[SEP]`` behind it.

    Text is brought to one form (Unicode NFKC, lower case) and cut at white space and punctuation; "characters" then
    takes the commonest characters, "pieces" the pieces of words that byte-pair encoding merges. "ngrams" takes the
    commonest n-grams of characters, up to `longest_ngram`, of texts that were written as such (`dpo_lab.model.ngrams`).
    What is seldom is ``[UNK]``. The same corpus gives the same tokenizer.

    Raises:
        UserError: when `vocab_size` holds no more than the special tokens.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = list(SPECIAL_TOKENS.values())
    if vocab_size <= len(special):
        raise UserError(f"model.vocab_size: {vocab_size} holds nothing but the {len(special)} special tokens")
    if tokens == "ngrams":
        return _ngram_tokenizer(
            commonest_ngrams(corpus, longest_ngram, vocab_size - len(special), MIN_COUNT), longest_ngram
        )
    unknown = SPECIAL_TOKENS["unk_token"]
    is_cut = tokens == "characters"
    tokenizer = Tokenizer(models.WordLevel(unk_token=unknown) if is_cut else models.BPE(unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])  # type: ignore[assignment]
    words = pre_tokenizers.Whitespace()
    tokenizer.pre_tokenizer = (  # type: ignore[assignment]
        pre_tokenizers.Sequence([words, pre_tokenizers.Split(Regex("."), "isolated")]) if is_cut else words
    )
    trainer: Any = trainers.WordLevelTrainer if is_cut else trainers.BpeTrainer
    options = {"min_frequency": MIN_COUNT, "show_progress": False, "special_tokens": special}
    tokenizer.train_from_iterator(corpus, trainer(vocab_size=vocab_size, **options))
    return _wrap(tokenizer)


def _ngram_tokenizer(ngrams: Sequence[str], longest: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS.values(), *ngrams])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return _wrap(tokenizer, **{NGRAMS: longest})


def _wrap(tokenizer: Any, **kept: Any) -> Any:
    """As transformers has it; `kept` goes into its config."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    begin, end = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (begin, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **SPECIAL_TOKENS, **kept
    )
