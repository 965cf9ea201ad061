"""Classifiers of transformers, built from what `conf/model/classifier.yaml` says."""

from collections.abc import Sequence

from dpo_lab.errors import UserError
from dpo_lab.model.class_policy import Classifier, load_classifier
from dpo_lab.model.heads import Head, HeadChoice
from dpo_lab.model.layers import prepare_layers
from dpo_lab.model.lora import LoraExport, LoraSettings, LoraTarget
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, Positive, PositiveInt


def classifier(
    classes: Sequence[str] | None = None,
    seed: int = 0,
    adapter_seed: int | None = None,
    *,
    path: str,
    head: HeadChoice = "auto",
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    token_dropout: Fraction = 0.0,
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
    lora_export: LoraExport = "merged",
    gradient_checkpointing: bool = False,
    compile: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Classifier:
    """Any model that transformers' AutoModelForSequenceClassification loads: BERT, RoBERTa, ModernBERT, GPT-2, ...

    Args:
        classes: their names in order, as the data knows them; the framework gives them.
        seed: of a head that is drawn; the framework gives it.
        adapter_seed: of a fresh adapter, as in `causal_lm`; the framework gives it.
        path: a folder, a hub name such as ``bert-base-chinese``, or a folder with an adapter that peft wrote.
        head: "own" keeps the checkpoint's head, whose classes must be the data's, in whatever order, or have no names;
            "new" draws one; "auto" keeps the checkpoint's where it has one for exactly the data's classes.
        dtype: of the weights that are trained, as in `causal_lm`.
        dropout: every dropout rate of the model, in [0, 1), whatever the checkpoint's config says.
        token_dropout: share of the tokens of a text that are hidden while training, in [0, 1).
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
        UserError: when the model cannot be had; when the data has no classes; the message says what to do.
    """
    if classes is None:
        raise UserError(NO_CLASSES)
    settings = LoraSettings(
        rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target, export=lora_export
    )
    settings.check(path)
    policy = load_classifier(
        path,
        settings,
        seed if adapter_seed is None else adapter_seed,
        Head(head, tuple(classes), seed),
        dtype=dtype,
        dropout=dropout,
        token_dropout=token_dropout,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    prepare_layers(policy.model, recompute=gradient_checkpointing, compile=compile)
    return policy


NO_CLASSES = (
    "a classifier needs texts with classes, and this data has none; use data=labelled with data.path=FILE, or a model "
    "for what the data has (model=causal_lm)"
)
