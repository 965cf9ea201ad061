"""Data and token ids under a config, without a run, and without weights where the kind of model allows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.assemble.instantiate import build_objective, instantiate
from dpo_lab.assemble.preparing import build_preparation
from dpo_lab.config.signature import locate
from dpo_lab.data.source import DataSource
from dpo_lab.data.view import View, view_of
from dpo_lab.errors import UserError
from dpo_lab.hub import prepare_hub_access
from dpo_lab.model.causal_lm import causal_lm
from dpo_lab.model.chat_template import set_chat_template
from dpo_lab.model.lora import TOKENIZER_FILE, base_of, is_adapter_folder
from dpo_lab.model.policy import Policy
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.model.tiny import tiny, train_tokenizer
from dpo_lab.types import Encoded, Example


@dataclass(frozen=True)
class Encoding:
    """`encode` gives one `Encoded` an example; `end_id` ends a response; `fingerprint` hashes all that ids depend on.

    `tokenizer` is transformers' own, or None where the policy has none.
    """

    encode: Callable[[Sequence[Example]], list[Encoded]]
    end_id: int | None
    fingerprint: str
    tokenizer: Any | None

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as one token of its own."""
        return () if self.tokenizer is None else special_tokens(self.tokenizer)

    @property
    def unknown_id(self) -> int | None:
        return unknown_id(self.tokenizer)


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts that a transformers tokenizer reads as special tokens, in no order of importance."""
    added = [str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({*added, *map(str, tokenizer.all_special_tokens)}))


def unknown_id(tokenizer: Any | None) -> int | None:
    """The token that stands for whatever the vocabulary lacks; None where it has another meaning as well, or is not."""
    if tokenizer is None:
        return None
    found = tokenizer.unk_token_id
    return None if found in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) else found


def special_tokens_of(policy: Policy) -> tuple[str, ...]:
    """Texts that the tokenizer of `policy` reads as special tokens; none where it has no tokenizer of transformers."""
    return () if policy.tokenizer is None else special_tokens(policy.tokenizer)


def encoding_of(policy: Policy) -> Encoding:
    """How `policy` encodes."""
    return Encoding(policy.encode, policy.end_id, policy.encoding_fingerprint(), policy.tokenizer)


def build_source(config: Mapping[str, Any], **instead: Any) -> DataSource:
    """The data of `config`; with `instead` for those of its knobs that it has.

    Raises:
        UserError: where the data cannot be read.
    """
    node = dict(config["data"])
    node.update({knob: value for knob, value in instead.items() if knob in node})
    given = {"prepare": build_preparation(config), "cache_dir": Path(config["cache_dir"]).expanduser()}
    return instantiate(node, ("dpo_lab", *config["plugins"]), **given)


def build_view(config: Mapping[str, Any], source: DataSource) -> View:
    """What the loss of `config` reads off the data."""
    objective = build_objective(config["loss"], ("dpo_lab", *config["plugins"]))
    return view_of(objective.needs, objective.best_alone, source.max_length)


def build_encoding(config: Mapping[str, Any], texts: Sequence[str], classes: Sequence[str] | None = None) -> Encoding:
    """How the policy of `config` would encode.

    No weights are loaded for ``model=causal_lm`` and none are drawn for ``model=tiny``; any other policy is built.

    Args:
        texts: what a tokenizer may be trained on, as `dpo_lab.assemble.tokens.corpus` gives it.
        classes: `DataSource.classes`.

    Raises:
        UserError: where the model or its tokenizer cannot be had.
    """
    node, packages = config["model"], ("dpo_lab", *config["plugins"])
    target = locate(node["_target_"], packages)
    if target is tiny:
        return _encoding(TextEncoder(train_tokenizer(texts, node["vocab_size"])))
    if target is causal_lm:
        return _of_causal_lm(node)
    return encoding_of(instantiate(node, packages, corpus=texts, classes=classes, seed=0, adapter_seed=0))


def _of_causal_lm(node: Mapping[str, Any]) -> Encoding:
    path, tokenizer_path = node["path"], None
    if is_adapter_folder(path):
        folder = Path(path).expanduser()
        tokenizer_path = str(folder) if (folder / TOKENIZER_FILE).is_file() else None
        path = base_of(folder)
    folder = Path(path).expanduser()
    options: dict[str, Any] = {"trust_remote_code": node["trust_remote_code"]}
    if folder.is_dir():
        path = str(folder)
        options["local_files_only"] = True
    else:
        prepare_hub_access(path, kind="model", revision=node["revision"])
        options["revision"] = node["revision"] or "main"
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_path or path, **options)
    except Exception as error:  # tokenizers and code of a model raise types of their own
        raise UserError(f"the tokenizer of {path!r} cannot be loaded: {type(error).__name__}: {error}") from error
    set_chat_template(tokenizer, node["chat_template"])
    return _encoding(TextEncoder(tokenizer))


def _encoding(encoder: TextEncoder) -> Encoding:
    return Encoding(encoder.encode, encoder.end_id, encoder.fingerprint(), encoder.tokenizer)
