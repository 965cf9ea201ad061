"""Reading transformers models from folders and hub names, with errors that say what to do."""

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dpo_lab.errors import UserError
from dpo_lab.hub import prepare_hub_access
from dpo_lab.model.checkpoint_checks import check_causal, check_unused
from dpo_lab.model.dropout import set_config_dropout
from dpo_lab.model.heads import Head
from dpo_lab.model.quantization import Quantization, loader_options, refuse_quantized_checkpoint, settle
from dpo_lab.model.weight_files import check_finite, check_shapes, check_weight_files

NUM_NAMES_SHOWN = 5


class ModelKind(NamedTuple):
    """How people call one kind of model, which class of transformers loads it, and peft's name of its task.

    Without a task peft puts factors beside matrices and nothing else; with that of a classifier it would train the
    whole head as well, which could then not be switched off.
    """

    words: str
    auto_class: str
    task: str | None
    auto_tokenizer: str = "AutoTokenizer"


CAUSAL_LM = ModelKind("causal language model", "AutoModelForCausalLM", "CAUSAL_LM")


def load_model(
    path: str,
    kind: ModelKind,
    *,
    dtype: str,
    dropout: float,
    revision: str | None = None,
    trust_remote_code: bool = False,
    tokenizer_folder: str | None = None,
    quantization: Quantization | None = None,
    head: Head | None = None,
) -> tuple[Any, Any, dict[str, float]]:
    """Model with weights in `dtype` and dropout at `dropout`, tokenizer, and the dropout rates it came with.

    The tokenizer (of some kinds, a processor around it) is the model's own unless another folder is named.
    `quantization` is of the linear layers, but not of the output head. `head` is that of an encoder, which a checkpoint
    may lack; None where all weights have to be there.

    Raises:
        UserError: no such folder; no network and not downloaded before; files that transformers cannot load,
            that lack weights of the model, hold some that are not finite, or that are quantised already.
    """
    path = _find(path, revision)
    import transformers
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    if Path(path).is_dir():
        options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **options)
        refuse_quantized_checkpoint(path, config)
        if head is not None:
            head.configure(config, path)
        rates = set_config_dropout(config, dropout)
        held = {"dtype": getattr(torch, dtype), **loader_options(quantization, getattr(torch, dtype))}
        if getattr(config.get_text_config(), "attn_logit_softcapping", None):
            held["attn_implementation"] = "eager"  # transformers before 5.18 would leave the caps out (Gemma 2)
        loader: Any = getattr(transformers, kind.auto_class)
        with _quiet():
            model, loaded = loader.from_pretrained(
                path, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **held, **options
            )
        tokenizer = getattr(transformers, kind.auto_tokenizer).from_pretrained(tokenizer_folder or path, **options)
    except UserError:
        raise
    except Exception as error:  # safetensors, tokenizers and code of a model raise types of their own
        raise UserError(f"model {path!r} cannot be loaded as a {kind.words}: {reason_of(error)}") from error
    if head is not None:
        head.settle(model, loaded, path)
    else:
        check_shapes(f"model {path!r}", loaded)
    _check_complete(f"model {path!r}", loaded)
    check_finite(f"model {path!r}", model.state_dict())
    _warn_of_code(path, config, trust_remote_code, type(model).__name__)
    if head is None:
        check_unused(f"model {path!r}", map(str, loaded.get("unexpected_keys") or ()), model)
    if kind == CAUSAL_LM and quantization is None:
        check_causal(f"model {path!r}", model)
    settle(model)
    num_rows, num_tokens = model.get_input_embeddings().num_embeddings, len(getattr(tokenizer, "tokenizer", tokenizer))
    if num_tokens > num_rows:
        raise UserError(f"model {path!r}: the tokenizer has {num_tokens} tokens but the embedding only {num_rows} rows")
    return model, tokenizer, rates


def read_config(path: str, kind: ModelKind, revision: str | None = None) -> Any:
    """transformers' config of the model at `path`; no weight is loaded.

    Raises:
        UserError: as of `load_model`.
    """
    place = _find(path, revision)
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(place, revision=revision or "main")
    except Exception as error:
        raise UserError(f"model {path!r} cannot be loaded as a {kind.words}: {reason_of(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers lists weights that are missing or of another shape, be they wanted or not; we say which are not."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _find(path: str, revision: str | None) -> str:
    """The folder, or the name on the hub, that `path` means."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            inside = f"; {folder / 'model'} is one" if (folder / "model" / "config.json").is_file() else ""
            raise UserError(
                f"model {path!r} is a folder without config.json; give the folder that save_pretrained wrote{inside}"
            )
        check_weight_files(folder)
        return str(folder)
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1 or folder.exists()
    if looks_local:
        raise UserError(f"model {path!r}: there is no such folder; give an existing folder or a hub name (owner/name)")
    prepare_hub_access(path, kind="model", revision=revision)
    return path


def load_weights_into(model: nn.Module, folder: Path) -> None:
    """Copy the weights that `save_pretrained` wrote to `folder` into `model`; names and shapes must fit exactly.

    Raises:
        UserError: naming the tensors that do not fit.
    """
    model.load_state_dict(read_weights(model, folder))


def read_weights(model: Any, folder: Path) -> dict[str, Tensor]:
    """The weights that `save_pretrained` wrote to `folder`, under the names that they have in a model of this kind.

    Read by transformers, which writes some weights under other names and shapes than they have in the model.

    Raises:
        UserError: naming the tensors that do not fit.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    loader: Any = type(model)
    try:
        source, loaded = loader.from_pretrained(
            folder, config=model.config, dtype=model.dtype, output_loading_info=True, local_files_only=True
        )
    except Exception as error:  # safetensors raises types of its own
        raise UserError(f"weights in {folder} do not fit the model: {reason_of(error)}") from error
    _check_complete(f"weights in {folder} do not fit the model", loaded, allow_unexpected=False)
    return source.state_dict()


def _check_complete(what: str, loaded: dict[str, Any], *, allow_unexpected: bool = True) -> None:
    """Refuse a checkpoint that lacks weights: transformers draws them at random and only warns."""
    kinds = {"missing_keys": "lacks weights of the model, which would be random"}
    if not allow_unexpected:
        kinds["unexpected_keys"] = "holds weights that the model does not have"
    for kind, meaning in kinds.items():
        names = sorted(str(name) for name in loaded.get(kind) or ())
        if names:
            shown = ", ".join(names[:NUM_NAMES_SHOWN])
            more = f" and {len(names) - NUM_NAMES_SHOWN} more" if len(names) > NUM_NAMES_SHOWN else ""
            raise UserError(f"{what}: the checkpoint {meaning}: {shown}{more}; give a complete checkpoint of this kind")


class CodeNotRunWarning(UserWarning):
    """A model comes with code of its own, and was built by transformers' own code of the same name instead."""


def _warn_of_code(path: str, config: Any, is_trusted: bool, built: str) -> None:
    if getattr(config, "auto_map", None) and not is_trusted:
        warnings.warn(
            f"model {path!r} comes with code of its own, which was not run: transformers' {built} was built instead. "
            "Where its numbers must be those of its own code: model.trust_remote_code=true",
            CodeNotRunWarning,
            stacklevel=2,
        )


def reason_of(error: Exception) -> str:
    """What a library says, with our name of what it asks for."""
    text = str(error).partition("Model type should be one of")[0].strip()
    if "custom code" in text and "trust_remote_code" in text:
        return "it needs code that comes with it, and that is not run unless you say so: model.trust_remote_code=true"
    if isinstance(error, ImportError) and "torchvision" in text.lower():
        return (
            "its processor reads videos as well, for which transformers asks for torchvision; install the one that "
            "belongs to your torch: pip install 'dpo-lab[vision]'"
        )
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are a pickle with more in it than tensors, and none of it was run; give safetensors"
    return f"{type(error).__name__}: {text}"
