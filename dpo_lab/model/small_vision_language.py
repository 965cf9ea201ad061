"""A small LLaVA-style model, its image processor and a byte-level BPE tokenizer, built on the spot."""

from collections.abc import Sequence
from typing import Any

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.dropout import set_config_dropout
from dpo_lab.model.lora import LoraSettings, LoraTarget, add_adapter
from dpo_lab.model.tiny import train_tokenizer
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.model.vision_policy import VISION_LANGUAGE, VisionLanguageModel
from dpo_lab.ranges import Fraction, Positive, PositiveInt

IMAGE_TOKEN = "<image>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' }}"
    "{% for part in message['content'] %}"
    f"{{{{ '{IMAGE_TOKEN}' if part['type'] == 'image' else part['text'] }}}}"
    "{% endfor %}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def small_vision_language(
    corpus: Sequence[str],
    seed: int,
    adapter_seed: int | None = None,
    *,
    hidden_size: PositiveInt = 64,
    num_layers: PositiveInt = 2,
    num_vision_layers: PositiveInt = 1,
    num_heads: PositiveInt = 4,
    image_size: PositiveInt = 32,
    patch_size: PositiveInt = 8,
    vocab_size: PositiveInt = 320,
    max_positions: PositiveInt = 512,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
) -> VisionLanguageModel:
    """A random LLaVA of a few hundred thousand weights (a CLIP vision tower, a projection, a Llama) whose tokenizer is
    trained on the texts of the data.

    Args:
        corpus: texts that the tokenizer is trained on; the framework gives the training texts.
        seed: of the initial weights; the framework gives it.
        adapter_seed: of a fresh adapter, as in `causal_lm`.
        hidden_size: width, of what sees as of what reads; a multiple of twice `num_heads`.
        num_layers: blocks of what reads.
        num_vision_layers: blocks of what sees.
        num_heads: attention heads.
        image_size: pixels to which the shorter side of an image is scaled; of the longer one the middle is taken.
        patch_size: side of the squares of which each becomes one token; a divisor of `image_size`.
        vocab_size: tokens without that of an image, at least 259: every byte and three special ones.
        max_positions: longest prompt and response together, tokens, those of images too.
        dtype: of the weights.
        dropout: attention dropout, in [0, 1).
        lora_rank: of a low-rank adapter, as in `causal_lm`; null trains the whole model.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`.

    Raises:
        UserError: when sizes do not fit each other.
    """
    from transformers import LlavaForConditionalGeneration

    if hidden_size % (2 * num_heads):
        raise UserError(f"model.hidden_size: {hidden_size} is not a multiple of 2 * model.num_heads = {2 * num_heads}")
    if image_size % patch_size:
        raise UserError(f"model.patch_size: {patch_size} does not divide model.image_size = {image_size}")
    settings = LoraSettings(rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target)
    settings.check(None)
    processor = make_processor(train_tokenizer(corpus, vocab_size), image_size, patch_size)
    sizes: dict[str, Any] = {
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_attention_heads": num_heads,
    }
    config = llava_config(
        processor.tokenizer,
        vision={**sizes, "num_hidden_layers": num_vision_layers, "image_size": image_size, "patch_size": patch_size},
        text={**sizes, "num_hidden_layers": num_layers, "max_position_embeddings": max_positions},
    )
    rates = set_config_dropout(config, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the generators of GPUs as well
        model = LlavaForConditionalGeneration(config).to(getattr(torch, dtype))
    drawn_from = seed if adapter_seed is None else adapter_seed
    adapter = None
    if lora_rank is not None:
        adapter = add_adapter(model, settings, drawn_from, base=None, task=VISION_LANGUAGE.task)
    return VisionLanguageModel(model, processor, dtype=dtype, dropout=dropout, exported_dropout=rates, adapter=adapter)


def make_processor(tokenizer: Any, image_size: int, patch_size: int) -> Any:
    """LLaVA's processor around `tokenizer`, which learns the token of an image."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_TOKEN]})
    square = {"height": image_size, "width": image_size}
    return LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=square),
        tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class embedding, which "default" leaves out
        chat_template=CHAT_TEMPLATE,
    )


def llava_config(tokenizer: Any, *, vision: dict[str, Any], text: dict[str, Any]) -> Any:
    """Of a LLaVA whose tokens are those of `tokenizer`, and which takes the last layer of what it sees."""
    from transformers import LlavaConfig

    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "projection_dim": vision["hidden_size"], **vision},
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), "tie_word_embeddings": True, **text, **ids},
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
