"""Reading transformers models from folders and hub names, with errors that say what to do."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_lab.errors import UserError
from dpo_lab.hub import prepare_hub_access
from dpo_lab.model.dropout import set_config_dropout


def load_causal_lm(
    path: str, *, dtype: str, dropout: float, revision: str | None = None, trust_remote_code: bool = False
) -> tuple[Any, Any, dict[str, float]]:
    """Model with weights in `dtype` and dropout at `dropout`, tokenizer, and the dropout rates it came with.

    Raises:
        UserError: no such folder; no network and not downloaded before; files that transformers cannot load.
    """
    _check_path(path)
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    if os.path.isdir(path):
        options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(path, **options)
        rates = set_config_dropout(config, dropout)
        model = AutoModelForCausalLM.from_pretrained(path, config=config, dtype=getattr(torch, dtype), **options)
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"model {path!r} cannot be loaded as a causal language model: {error}") from error
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UserError(
            f"model {path!r}: the tokenizer has {len(tokenizer)} tokens but the embedding only "
            f"{model.get_input_embeddings().num_embeddings} rows"
        )
    return model, tokenizer, rates


def _check_path(path: str) -> None:
    if os.path.isdir(path):
        if not (Path(path) / "config.json").is_file():
            raise UserError(f"model {path!r} is a folder without config.json; give the folder that save_pretrained wrote")
        return
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    if looks_local:
        raise UserError(f"model {path!r}: there is no such folder; give an existing folder or a hub name (owner/name)")
    prepare_hub_access(path, kind="model")


def load_weights_into(model: nn.Module, folder: Path) -> None:
    """Copy `model.safetensors` of `folder` into `model`; names, shapes and dtypes must fit exactly.

    Raises:
        UserError: naming the first tensor that does not fit.
    """
    from safetensors.torch import load_model

    try:
        load_model(model, str(folder / "model.safetensors"), strict=True)
    except (RuntimeError, OSError) as error:
        raise UserError(f"weights in {folder} do not fit the model: {error}") from error
