"""Causal language models of transformers, built from what `conf/model/causal_lm.yaml` says."""

from dpo_lab.model.attention_choice import Attention
from dpo_lab.model.causal_policy import CausalLM
from dpo_lab.model.chat_template import set_chat_template
from dpo_lab.model.layers import prepare_layers
from dpo_lab.model.loading import CAUSAL_LM
from dpo_lab.model.lora import LoraExport, LoraSettings, LoraTarget, load_with_adapter
from dpo_lab.model.quantization import Quantization, check_quantization
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, Positive, PositiveInt


def causal_lm(
    seed: int = 0,
    adapter_seed: int | None = None,
    *,
    path: str,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    attention: Attention = "auto",
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
    lora_export: LoraExport = "merged",
    quantization: Quantization | None = None,
    gradient_checkpointing: bool = False,
    compile: bool = False,
    chat_template: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> "CausalLM":
    """Any model that transformers' AutoModelForCausalLM loads, whole or with a low-rank adapter (LoRA, Hu et al. 2021,
    arXiv 2106.09685): beside a frozen matrix W stands alpha/rank * B A, and A and B alone are trained.

    Args:
        seed: of the initial weights, of which only a fresh adapter has any; the framework gives it.
        adapter_seed: of a fresh adapter's first factor A (B is zero), where it is another; the framework gives it.
        path: a folder, a hub name such as ``Qwen/Qwen3-0.6B``, or a folder with an adapter that peft wrote
            (adapter_config.json), which is then trained further.
        dtype: of the weights that are trained, whatever the checkpoint holds. In bfloat16 small steps round to
            nothing; mixed precision is ``trainer.precision=bf16-mixed`` over float32 weights. An adapter is float32.
        dropout: every dropout rate of the model, in [0, 1). 0 is none, whatever the checkpoint's config says. Other
            noise of training (layers left out, jitter of a router) is always off.
        attention: how log-probs are computed. "shared": the prompt of a group once for all its responses; "packed":
            once for each response, without padding; "padded": row by row, for models that can do neither. "auto" takes
            the first that this model can, by trying it; the numbers are the same to rounding.
        lora_rank: of a fresh adapter; null trains the whole model.
        lora_alpha: scale of the adapter, which is alpha/rank; null is twice the rank, so a scale of 2.
        lora_dropout: in front of the adapter, in [0, 1).
        lora_target: matrices that get one: ends of their names, "all-linear", or null for those that peft holds to be
            usual for this kind of model (of attention), all linear ones where it knows of none.
        lora_export: "merged" writes a plain model with the adapter added in, "adapter" the adapter alone.
        quantization: how the frozen model below an adapter is held, by bitsandbytes: "8bit" (a scale for each row of a
            matrix) or "4bit" (NF4, its scales quantised too); it is unpacked layer by layer to compute in `dtype`.
            Null holds it in `dtype`. Merged, it is written unpacked, so that the plain model gives what was trained.
        gradient_checkpointing: compute layers twice instead of keeping their insides for the way back: less memory.
        compile: have torch.compile make kernels of the layers, at the first step, which then takes minutes; not
            together with `gradient_checkpointing`. A copy of the policy as reference is not compiled.
        chat_template: file with a Jinja template that replaces the tokenizer's own.
        revision: of a hub model: a branch, tag or commit.
        trust_remote_code: run code that comes with the model.

    Raises:
        UserError: when the model cannot be had; the message says what to do.
    """
    settings = LoraSettings(
        rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target, export=lora_export
    )
    settings.check(path)
    check_quantization(quantization, has_adapter=settings.is_wanted(path))
    model, tokenizer, rates, adapter = load_with_adapter(
        path,
        CAUSAL_LM,
        settings,
        seed if adapter_seed is None else adapter_seed,
        dtype=dtype,
        dropout=dropout,
        revision=revision,
        trust_remote_code=trust_remote_code,
        quantization=quantization,
    )
    set_chat_template(tokenizer, chat_template)
    policy = CausalLM(
        model,
        tokenizer,
        dtype=dtype,
        dropout=dropout,
        exported_dropout=rates,
        attention=attention,
        adapter=adapter,
        quantization=quantization,
    )
    prepare_layers(model, recompute=gradient_checkpointing, compile=compile)
    return policy
