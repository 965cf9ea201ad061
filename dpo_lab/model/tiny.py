"""A small Llama-style model and a byte-level BPE tokenizer, built on the spot: nothing is downloaded."""

from collections.abc import Sequence
from typing import Any

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.attention_choice import Attention
from dpo_lab.model.causal_policy import CausalLM
from dpo_lab.model.dropout import set_config_dropout
from dpo_lab.model.layers import prepare_layers
from dpo_lab.model.lora import LoraSettings, LoraTarget, add_adapter
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, Positive, PositiveInt

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def tiny(
    corpus: Sequence[str],
    seed: int,
    adapter_seed: int | None = None,
    *,
    hidden_size: PositiveInt = 96,
    num_layers: PositiveInt = 2,
    num_heads: PositiveInt = 4,
    vocab_size: PositiveInt = 512,
    max_positions: PositiveInt = 512,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    attention: Attention = "auto",
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
    gradient_checkpointing: bool = False,
    compile: bool = False,
) -> CausalLM:
    """A random Llama of under a million parameters whose tokenizer is trained on the texts of the data.

    Args:
        corpus: texts that the tokenizer is trained on; the framework gives the training texts.
        seed: of the initial weights; the framework gives it.
        adapter_seed: of a fresh adapter, as in `causal_lm`.
        hidden_size: width; a multiple of twice `num_heads`.
        num_layers: blocks.
        num_heads: attention heads.
        vocab_size: tokens, at least 259: every byte and three special ones.
        max_positions: longest prompt and response together, tokens.
        dtype: of the weights.
        dropout: attention dropout, in [0, 1).
        attention: how log-probs are computed, as in `causal_lm`.
        lora_rank: of a low-rank adapter, as in `causal_lm`; null trains the whole model. It is exported merged: the
            model below it is nowhere on disk.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`.
        gradient_checkpointing: as in `causal_lm`.
        compile: as in `causal_lm`.

    Raises:
        UserError: when sizes do not fit each other.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if hidden_size % (2 * num_heads):
        raise UserError(f"model.hidden_size: {hidden_size} is not a multiple of 2 * model.num_heads = {2 * num_heads}")
    settings = LoraSettings(rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target)
    settings.check(None)
    tokenizer = train_tokenizer(corpus, vocab_size)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size * 2 // 3,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    rates = set_config_dropout(config, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the generators of GPUs as well
        model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    drawn_from = seed if adapter_seed is None else adapter_seed
    adapter = None if lora_rank is None else add_adapter(model, settings, drawn_from, base=None)
    policy = CausalLM(
        model, tokenizer, dtype=dtype, dropout=dropout, exported_dropout=rates, attention=attention, adapter=adapter
    )
    prepare_layers(model, recompute=gradient_checkpointing, compile=compile)
    return policy


def train_tokenizer(corpus: Sequence[str], vocab_size: int, *, around: str = "<s> $A") -> Any:
    """Byte-level BPE over `corpus`: any text can be encoded, and the same corpus gives the same tokenizer.

    `around` says which special tokens stand around a text ($A).

    Raises:
        UserError: when `vocab_size` does not hold every byte and the special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise UserError(
            f"model.vocab_size: {vocab_size} is too small; every byte and the special tokens need {smallest}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=around,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in around.split() if token != "$A"],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE, **SPECIAL_TOKENS)
