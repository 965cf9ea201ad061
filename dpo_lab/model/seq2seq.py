"""Encoder-decoder models of transformers, built from what `conf/model/seq2seq.yaml` says."""

from dpo_lab.model.chat_template import set_chat_template
from dpo_lab.model.layers import prepare_layers
from dpo_lab.model.lora import LoraExport, LoraSettings, LoraTarget, load_with_adapter
from dpo_lab.model.seq2seq_policy import SEQ2SEQ, Seq2SeqLM
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, Positive, PositiveInt


def seq2seq(
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
) -> Seq2SeqLM:
    """Any model that transformers' AutoModelForSeq2SeqLM loads (T5, BART, Pegasus, Marian, ...), whole or with a
    low-rank adapter.

    The encoder reads the prompt, the decoder says the response; `data.max_length` still counts both together.

    Args:
        seed: as in `causal_lm`; the framework gives it.
        adapter_seed: as in `causal_lm`; the framework gives it.
        path: a folder, a hub name such as ``google/flan-t5-small``, or a folder with an adapter that peft wrote.
        dtype: of the weights that are trained.
        dropout: every dropout rate of the model, in [0, 1). 0 is none, whatever the checkpoint's config says. Above 0
            each response has its prompt encoded for itself.
        lora_rank: as in `causal_lm`.
        lora_alpha: as in `causal_lm`.
        lora_dropout: as in `causal_lm`.
        lora_target: as in `causal_lm`.
        lora_export: as in `causal_lm`.
        gradient_checkpointing: as in `causal_lm`.
        chat_template: as in `causal_lm`; without one prompts have to be plain text.
        revision: of a hub model: a branch, tag or commit.
        trust_remote_code: run code that comes with the model.

    Raises:
        UserError: when the model cannot be had; the message says what to do.
    """
    settings = LoraSettings(
        rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target, export=lora_export
    )
    settings.check(path)
    loaded = load_with_adapter(
        path,
        SEQ2SEQ,
        settings,
        seed if adapter_seed is None else adapter_seed,
        dtype=dtype,
        dropout=dropout,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    set_chat_template(loaded.tokenizer, chat_template)
    policy = Seq2SeqLM(
        loaded.model,
        loaded.tokenizer,
        dtype=dtype,
        dropout=dropout,
        exported_dropout=loaded.dropout_rates,
        adapter=loaded.adapter,
    )
    prepare_layers(loaded.model, recompute=gradient_checkpointing, compile=False)
    return policy
