"""Random vision-language models of the kinds that differ in how a picture becomes tokens; a few thousand weights each.

llava: one size of picture, one token a patch; what stands for it is taken from an inner layer of the vision tower.
idefics3: a picture is cut into parts, padded to those of the largest in the batch, and masked; tokens around each part.
qwen2_vl: as many tokens as a picture has patches, all of a batch in one row; positions in three directions.
gemma3: one token marks the place and others fill it; those of one picture attend to each other in both directions.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import decoders, pre_tokenizers

from dpo_lab.image_files import hash_image
from dpo_lab.types import Example, ImageFile, Message
from tests.model.tokenizers import begin_with, train

SPECIAL = ["<pad>", "<s>", "</s>"]
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,  # far from uniform, so that what is wrong shows
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SEEN: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.4,
}


def tokenizer_with(*tokens: str, **named: str) -> Any:
    """Byte-level BPE that begins texts with BOS and knows each of `tokens` as one; `named` says what some are for."""
    from transformers import PreTrainedTokenizerFast

    bpe = train(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), [*SPECIAL, *tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=begin_with(bpe, "<s>"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=list(tokens),
        extra_special_tokens=named,
    )


def template(mark: str) -> str:
    return (
        "{% for m in messages %}{{ m['role'] + ':' }}{% for p in m['content'] %}"
        f"{{{{ '{mark}' if p['type'] == 'image' else p['text'] }}}}"
        "{% endfor %}{% if m['role'] == 'assistant' %}{{ '</s>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )


def llava() -> tuple[Any, Any]:
    from transformers import LlavaConfig, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = tokenizer_with("<image>")
    square = {"height": 16, "width": 16}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=square),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **SEEN, "image_size": 16, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(tokenizer), "attention_dropout": 0.1},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
    )
    return config, processor


def idefics3() -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    around = [f"<row_{row}_col_{column}>" for row in (1, 2, 3) for column in (1, 2, 3)]
    tokenizer = tokenizer_with("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *around)
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        tokenizer,
        image_seq_len=4,
        chat_template=template("<image>"),
    )
    config = Idefics3Config(
        vision_config={**SEEN, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return config, processor


def qwen2_vl() -> tuple[Any, Any]:
    from transformers import Qwen2VLConfig, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    class WithoutVideos(Qwen2VLProcessor):
        """transformers reads videos with torchvision, and has no such processor without it."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    tokenizer = tokenizer_with("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    processor = WithoutVideos(
        Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=1024),
        tokenizer,
        None,
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    ids = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in {
            "image_token_id": "<|image_pad|>",
            "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|vision_start|>",
            "vision_end_token_id": "<|vision_end|>",
        }.items()
    }
    config = Qwen2VLConfig(
        vision_config={
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 16,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
            "initializer_range": 0.4,
        },
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        **ids,
    )
    return config, processor


def gemma3() -> tuple[Any, Any]:
    from transformers import Gemma3Config, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokenizer = tokenizer_with(
        *("<start_of_image>", "<image_soft_token>", "<end_of_image>"),
        boi_token="<start_of_image>",
        image_token="<image_soft_token>",
        eoi_token="<end_of_image>",
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
        tokenizer,
        image_seq_length=4,
        chat_template=template("<start_of_image>"),
    )
    config = Gemma3Config(
        vision_config={**SEEN, "image_size": 32, "patch_size": 8, "vision_use_head": False},
        text_config={**TEXT, "vocab_size": len(tokenizer), "sliding_window": 64},
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )
    return config, processor


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava,
    "idefics3": idefics3,
    "qwen2_vl": qwen2_vl,
    "gemma3": gemma3,
}


def random_vision_model(name: str, *, vocab_size: int | None = None) -> tuple[Any, Any]:
    """A model of this kind in evaluation mode, and its processor, which may know more tokens than the model."""
    from transformers import AutoModelForImageTextToText

    config, processor = MODELS[name]()
    if vocab_size is not None:
        config.text_config.vocab_size = vocab_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # what a library starts at zero or one would hide what is wrong
                parameter.add_(torch.randn(parameter.shape) * 0.05)
    return model, processor


def write_vision_model(folder: Path, name: str) -> Path:
    """Save a random model of this kind with its processor, as transformers does."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model, processor = random_vision_model(name)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def draw_picture(file: Path, size: tuple[int, int], seed: int) -> ImageFile:
    """Coloured noise in blocks: no two parts of it are alike."""
    pixels = torch.randint(0, 256, (4, 4, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.NEAREST).save(file)
    return ImageFile(str(file), hash_image(file.read_bytes()))


def shown(text: str, images: Sequence[ImageFile], *responses: str) -> Example:
    """A question about `images`, which stand in front of it."""
    question = Message(role="user", content=text)
    if images:
        question["images"] = [(0, image.sha256) for image in images]
    return Example([question], responses, source=f"a row that asks {text}", images=tuple(images))
