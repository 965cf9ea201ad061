"""Tokenizers of the kinds that differ at the ends of a text: what stands first, what stands last, where spaces go."""

from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from dpo_lab.model.tiny import train_tokenizer

CORPUS = [
    "the cat sat on the mat. the dog did not!",
    "hello world, hello there\nwhat is 12 + 34?",
    "a helpful answer is short. a short answer is helpful.",
    "so\nlo and so\nlo and no\nlo",  # where words may hold a line break, "lo" merges with the one before it
]
CHARACTERS = sorted({character for text in CORPUS for character in text} | set("aeiou 0\n"))
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SIZE = 320


def train(pre_tokenizer: Any, decoder: Any, special: list[str], normalizer: Any = None, model: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(model or models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    alphabet = (
        pre_tokenizers.ByteLevel.alphabet() if isinstance(pre_tokenizer, pre_tokenizers.ByteLevel) else CHARACTERS
    )
    options: dict[str, Any] = {
        "vocab_size": SIZE,
        "special_tokens": special,
        "initial_alphabet": sorted(alphabet),
        "show_progress": False,
    }
    if isinstance(model, models.Unigram):
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
    else:
        trainer = trainers.BpeTrainer(**options)
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def begin_with(tokenizer: Tokenizer, bos: str) -> Tokenizer:
    """Let the tokenizer itself write `bos` before every text."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return tokenizer


def llama_like(scheme: str) -> PreTrainedTokenizerFast:
    """SentencePiece's way: a space before the first word, written as an underscore; BOS added, no padding token."""
    tokenizer = train(
        pre_tokenizers.Metaspace(prepend_scheme=scheme),
        decoders.Metaspace(prepend_scheme=scheme),
        ["<unk>", "<s>", "</s>"],
    )
    return PreTrainedTokenizerFast(tokenizer_object=begin_with(tokenizer, "<s>"), bos_token="<s>", eos_token="</s>")


def llama_2_like() -> PreTrainedTokenizerFast:
    """As Llama 2 has it: the space by a normalizer and no words, so that merges reach across spaces."""
    tokenizer = train(
        None,
        decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        ["<unk>", "<s>", "</s>"],
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    )
    return PreTrainedTokenizerFast(tokenizer_object=begin_with(tokenizer, "<s>"), bos_token="<s>", eos_token="</s>")


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = train(
        pre_tokenizers.Metaspace(), decoders.Metaspace(), ["<unk>", "<s>", "</s>"], model=models.Unigram()
    )
    return PreTrainedTokenizerFast(tokenizer_object=begin_with(tokenizer, "<s>"), bos_token="<s>", eos_token="</s>")


def gpt2_like(add_prefix_space: bool = False) -> PreTrainedTokenizerFast:
    """One special token that ends a text and is called its beginning as well, but is never written there."""
    tokenizer = train(
        pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space), decoders.ByteLevel(), ["<|endoftext|>"]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def qwen_like() -> PreTrainedTokenizerFast:
    """No BOS; ChatML."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML
    )


def yi_like() -> PreTrainedTokenizerFast:
    """A BOS by name, other than EOS, that the tokenizer never writes."""
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), ["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=CHATML)


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "tiny": lambda: train_tokenizer(CORPUS * 3, SIZE),
    "gpt2": gpt2_like,
    "gpt2 with a prefix space": lambda: gpt2_like(add_prefix_space=True),
    "qwen": qwen_like,
    "yi": yi_like,
    "metaspace always": lambda: llama_like("always"),
    "metaspace first": lambda: llama_like("first"),
    "llama 2": llama_2_like,
    "unigram": unigram,
}
BEGIN_WITH_BOS = {"tiny", "metaspace always", "metaspace first", "llama 2", "unigram"}
SPACE_FIRST = {"gpt2 with a prefix space"}
