"""Dropout of a transformers model, set in the one place where the library reads it."""

from typing import Any

from torch import nn

OTHER_NOISE = ("layerdrop", "jitter_noise", "drop_path_rate")


def set_config_dropout(config: Any, rate: float) -> dict[str, float]:
    """Set every dropout rate of a transformers config to `rate`, in [0, 1); return what stood there before.

    Attention layers copy their rate from the config when they are built and apply it through a function, so it
    cannot be changed on the modules afterwards. Nested configs (text, vision) are followed. Other noise of training
    (layers left out, jitter of a router) is no dropout rate: it is switched off whatever `rate` is.
    """
    before: dict[str, float] = {}
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type"):
            before |= {f"{name}.{inner}": old for inner, old in set_config_dropout(value, rate).items()}
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and is_training_noise(name):
            before[name] = value
            _write(config, name, 0.0 if name.endswith(OTHER_NOISE) else rate)
    return before


def restore_config_dropout(config: Any, rates: dict[str, float]) -> dict[str, float]:
    """Write back what `set_config_dropout` returned; return what stood there before."""
    before: dict[str, float] = {}
    for path, value in rates.items():
        *parents, name = path.split(".")
        owner = config
        for parent in parents:
            owner = getattr(owner, parent)
        before[path] = getattr(owner, name)
        _write(owner, name, value)
    return before


def is_training_noise(name: str) -> bool:
    """Whether the field `name` of a transformers config is a rate of dropout, or of other noise of training."""
    return "dropout" in name or name.endswith(("_pdrop", *OTHER_NOISE))


def set_module_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout module of `model` to `rate`: some models build them from constants."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate


def _write(config: Any, name: str, rate: float) -> None:
    # Past the config's own checks: MPT declares its rates as int, so that it would refuse 0.1 and even 0.0.
    vars(config)[name] = rate
