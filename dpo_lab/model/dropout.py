"""Dropout of a transformers model, set in the one place where the library reads it."""

from typing import Any

from torch import nn


def set_config_dropout(config: Any, rate: float) -> dict[str, float]:
    """Set every dropout rate of a transformers config to `rate`, in [0, 1); return what stood there before.

    Attention layers copy their rate from the config when they are built and apply it through a function, so it
    cannot be changed on the modules afterwards. Nested configs (text, vision) are followed.
    """
    before: dict[str, float] = {}
    for name, value in list(vars(config).items()):
        is_rate = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_rate and ("dropout" in name or name.endswith("_pdrop")):
            before[name] = float(value)
            setattr(config, name, rate)
        elif hasattr(value, "model_type"):
            before |= {f"{name}.{inner}": old for inner, old in set_config_dropout(value, rate).items()}
    return before


def restore_config_dropout(config: Any, before: dict[str, float]) -> None:
    """Undo `set_config_dropout`, so that an exported model carries the rates it came with."""
    for path, value in before.items():
        *parents, name = path.split(".")
        owner = config
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, value)


def set_module_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout module of `model` to `rate`: some models build them from constants."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
