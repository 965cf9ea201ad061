"""Models with a low-rank adapter, fresh or read from a folder that peft wrote."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter, quietly
from dpo_lab.model.loading import CAUSAL_LM, ModelKind, load_model, reason_of
from dpo_lab.model.weight_files import ADAPTERS, check_finite, check_weight_files, some

LoraExport = Literal["merged", "adapter"]
LoraTarget = str | list[str]

CONFIG_FILE = "adapter_config.json"
TOKENIZER_FILE = "tokenizer_config.json"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """What `model.lora_...` say; the docstring of `causal_lm` has their meaning."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    target: LoraTarget | None = None
    export: LoraExport = "merged"

    def is_wanted(self, path: str) -> bool:
        """Whether there is an adapter: a fresh one, or one at `path`."""
        return self.rank is not None or is_adapter_folder(path)

    def check(self, path: str | None) -> None:
        """Refuse knobs that could not act, before anything is loaded.

        Raises:
            UserError: a knob of an adapter without one, or one that the adapter at `path` decides; peft is missing.
        """
        trained = path is not None and is_adapter_folder(path)
        shape = {"rank": self.rank, "alpha": self.alpha, "target": self.target}
        given = [f"model.lora_{name}" for name, value in shape.items() if value is not None]
        if trained and given:
            raise UserError(f"{', '.join(given)}: the adapter in {path} has its own; leave them out")
        if not trained and self.rank is None:
            given += ["model.lora_dropout"] if self.dropout else []
            given += ["model.lora_export"] if self.export != "merged" else []
            if given:
                raise UserError(f"{', '.join(given)}: there is no adapter; give it a size with model.lora_rank")
        if trained or self.rank is not None:
            _peft()


def is_adapter_folder(path: str) -> bool:
    """Whether `path` is a folder that peft wrote: an adapter, and the name of the model below it."""
    return (Path(path).expanduser() / CONFIG_FILE).is_file()


def base_of(folder: Path) -> str:
    """Folder or hub name of the model below the adapter in `folder`.

    Raises:
        UserError: the adapter does not say it, or is damaged.
    """
    file = folder / CONFIG_FILE
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} is no JSON object ({error}): fetch or copy it again") from error
    check_weight_files(folder, ADAPTERS)
    if not base or not isinstance(base, str):
        raise UserError(f"{file} names no base model (base_model_name_or_path), so the adapter cannot be loaded")
    return base


class Loaded(NamedTuple):
    """What a path stands for. `dropout_rates` are those that the model came with."""

    model: Any
    tokenizer: Any
    dropout_rates: dict[str, float]
    adapter: Adapter | None


def load_with_adapter(path: str, kind: ModelKind, settings: LoraSettings, seed: int, **options: Any) -> Loaded:
    """The model at `path`, with its adapter where `path` is an adapter's folder or `settings` want a fresh one.

    `options` are those of `load_model`.

    Raises:
        UserError: when the model, or its adapter, cannot be had.
    """
    if not is_adapter_folder(path):
        loaded = load_model(path, kind, **options)
        is_local = Path(path).expanduser().is_dir()
        base = str(Path(path).expanduser().resolve()) if is_local else path
        if settings.rank is None:
            return Loaded(*loaded, None)
        return Loaded(*loaded, add_adapter(loaded[0], settings, seed, base=base, task=kind.task))
    folder = Path(path).expanduser()
    own_tokenizer = str(folder) if (folder / TOKENIZER_FILE).is_file() else None
    base = base_of(folder)
    loaded = load_model(base, kind, tokenizer_folder=own_tokenizer, **options)
    return Loaded(*loaded, load_adapter(loaded[0], folder, settings, base=base))


def add_adapter(
    model: Any, settings: LoraSettings, seed: int, *, base: str | None, task: str | None = CAUSAL_LM.task
) -> Adapter:
    """Put a fresh adapter into `model`, in place; until its first update it changes no number.

    `seed` is that of its first factors; the second are zero. `base` is the folder or hub name of the model; `task`
    is peft's name of what it does.

    Raises:
        UserError: peft knows no such target modules in this model.
    """
    peft, rank = _peft(), settings.rank
    assert rank is not None
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    target = settings.target or known.get(model.config.model_type, "all-linear")
    config = peft.LoraConfig(
        task_type=task,
        r=rank,
        lora_alpha=2 * rank if settings.alpha is None else settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=target,
    )
    try:
        with torch.random.fork_rng(devices=[]), quietly():
            torch.default_generator.manual_seed(seed)
            wrapped = peft.get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"model.lora_target={settings.target}: {error}") from error
    return Adapter(wrapped, base=base, exported_alone=settings.export == "adapter")


def load_adapter(model: Any, folder: Path, settings: LoraSettings, *, base: str) -> Adapter:
    """Put the trained adapter in `folder` into `model`, in place, to be trained further.

    Raises:
        UserError: it is no plain LoRA, or does not fit the model.
    """
    peft = _peft()
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        if str(getattr(config.peft_type, "value", config.peft_type)) != "LORA":
            raise UserError(f"adapter {str(folder)!r} is of type {config.peft_type}; only LoRA can be trained further")
        beside = {
            "modules_to_save": bool(config.modules_to_save),
            "bias": config.bias != "none",
            "use_dora": config.use_dora,
            "trainable_token_indices": config.trainable_token_indices is not None,
        }
        if any(beside.values()):
            named = ", ".join(name for name, used in beside.items() if used)
            raise UserError(
                f"adapter {str(folder)!r} is more than two factors beside each matrix ({named}); merge it into its "
                "model first (merge_and_unload of peft) and give that folder as model.path"
            )
        config.lora_dropout = settings.dropout
        config.inference_mode = False
        with torch.random.fork_rng(devices=[]), quietly():
            wrapped = peft.PeftModel.from_pretrained(model, str(folder), config=config, is_trainable=True)
    except UserError:
        raise
    except Exception as error:  # safetensors and peft raise types of their own
        raise UserError(f"adapter {str(folder)!r} cannot be loaded: {reason_of(error)}") from error
    trained = {name: tensor for name, tensor in wrapped.named_parameters() if tensor.requires_grad}
    _check_names(folder, {re.sub(r"\.default(?=\.|$)", "", name) for name in trained})
    check_finite(f"adapter {str(folder)!r}", trained)
    return Adapter(wrapped, base=base, is_trained=True, exported_alone=settings.export == "adapter")


def _check_names(folder: Path, wanted: set[str]) -> None:
    """peft leaves factors as they were drawn where the file has none of their name, and only warns."""
    file = next(folder / name for name in ADAPTERS if (folder / name).is_file())
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="pt") as weights:
            found = set(weights.keys())
    else:
        found = set(torch.load(file, map_location="meta", weights_only=True))
    kinds = {"lacks factors that adapter_config.json asks for": wanted - found, "has others": found - wanted}
    if wanted - found:
        said = "; ".join(f"it {what}: {some(sorted(names))}" for what, names in kinds.items() if names)
        raise UserError(f"adapter {str(folder)!r} does not fit its model: {said}; give files of one adapter")


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError(
            "a LoRA adapter (model.lora_rank, or model.path with adapter_config.json) needs peft, which is not "
            "installed: pip install 'dpo-lab[peft]'"
        ) from error
    return peft
