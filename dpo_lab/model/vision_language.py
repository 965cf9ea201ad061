"""Vision-language models of transformers, built from what `conf/model/vision_language.yaml` says."""

from dpo_lab.model.chat_template import set_chat_template
from dpo_lab.model.layers import prepare_layers
from dpo_lab.model.lora import LoraExport, LoraSettings, LoraTarget, load_with_adapter
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.model.vision_policy import VISION_LANGUAGE, VisionLanguageModel
from dpo_lab.ranges import Fraction, Positive, PositiveInt


def vision_language(
    seed: int = 0,
    adapter_seed: int | None = None,
    *,
    path: str,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
    lora_export: LoraExport = "merged",
    gradient_checkpointing: bool = False,
    chat_template: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> VisionLanguageModel:
    """Any model that transformers' AutoModelForImageTextToText loads and whose processor marks the place of an image
    by a token of its own (LLaVA, Idefics3, SmolVLM, Qwen2-VL, Gemma 3, ...), whole or with a low-rank adapter.

    Args:
        seed: as in `causal_lm`; the framework gives it.
        adapter_seed: as in `causal_lm`; the framework gives it.
        path: a folder, a hub name such as ``HuggingFaceTB/SmolVLM-256M-Instruct``, or a folder with an adapter that
            peft wrote.
        dtype: of the weights that are trained; pixels are given in it.
        dropout: every dropout rate of the model, in [0, 1). 0 is none, whatever the checkpoint's config says.
        lora_rank: as in `causal_lm`.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`; without it, what sees the images gets an adapter where its matrices bear the
            names that peft holds to be usual.
        lora_export: as in `causal_lm`.
        gradient_checkpointing: as in `causal_lm`.
        chat_template: file with a Jinja template that replaces the processor's own.
        revision: of a hub model: a branch, tag or commit.
        trust_remote_code: run code that comes with the model.

    Raises:
        UserError: when the model cannot be had, or its processor is of a kind that cannot be used.
    """
    settings = LoraSettings(
        rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target, export=lora_export
    )
    settings.check(path)
    loaded = load_with_adapter(
        path,
        VISION_LANGUAGE,
        settings,
        seed if adapter_seed is None else adapter_seed,
        dtype=dtype,
        dropout=dropout,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    set_chat_template(loaded.tokenizer, chat_template)
    policy = VisionLanguageModel(
        loaded.model,
        loaded.tokenizer,
        dtype=dtype,
        dropout=dropout,
        exported_dropout=loaded.dropout_rates,
        adapter=loaded.adapter,
    )
    prepare_layers(loaded.model, recompute=gradient_checkpointing, compile=False)
    return policy
