"""Span readers of transformers, built from what `conf/model/extractive_qa.yaml` says."""

from dpo_lab.model.heads import Head, HeadChoice
from dpo_lab.model.layers import prepare_layers
from dpo_lab.model.lora import LoraExport, LoraSettings, LoraTarget
from dpo_lab.model.span_policy import SpanReader, load_span_reader
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, NonNegativeInt, Positive, PositiveInt


def extractive_qa(
    seed: int = 0,
    adapter_seed: int | None = None,
    *,
    path: str,
    window: PositiveInt = 384,
    stride: NonNegativeInt = 128,
    head: HeadChoice = "auto",
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
    lora_export: LoraExport = "merged",
    gradient_checkpointing: bool = False,
    compile: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> SpanReader:
    """Any model that transformers' AutoModelForQuestionAnswering loads: BERT, RoBERTa, ModernBERT, ...

    Args:
        seed: of a head that is drawn; the framework gives it.
        adapter_seed: of a fresh adapter, as in `causal_lm`; the framework gives it.
        path: a folder, a hub name such as ``deepset/roberta-base-squad2``, or a folder with an adapter that peft wrote.
        window: tokens that the model reads at a time, question included; a longer passage is read in several windows.
        stride: tokens of the passage that neighbouring windows share.
        head: "own" keeps the checkpoint's head, "new" draws one, "auto" draws one where the checkpoint has none.
        dtype: of the weights that are trained, as in `causal_lm`.
        dropout: every dropout rate of the model, in [0, 1), whatever the checkpoint's config says.
        lora_rank: of a fresh adapter, as in `causal_lm`; the head is then not trained, so it must have learnt before.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`.
        lora_export: as in `causal_lm`.
        gradient_checkpointing: as in `causal_lm`.
        compile: as in `causal_lm`.
        revision: of a hub model: a branch, tag or commit.
        trust_remote_code: run code that comes with the model.

    Raises:
        UserError: when the model cannot be had, or cannot read such windows; the message says what to do.
    """
    settings = LoraSettings(
        rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target, export=lora_export
    )
    settings.check(path)
    policy = load_span_reader(
        path,
        settings,
        seed if adapter_seed is None else adapter_seed,
        Head(head, None, seed),
        dtype=dtype,
        dropout=dropout,
        window=window,
        stride=stride,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    prepare_layers(policy.model, recompute=gradient_checkpointing, compile=compile)
    return policy
