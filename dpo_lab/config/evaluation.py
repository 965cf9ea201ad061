"""The config of `dpo-lab evaluate`: knobs of its own beside overrides of the run's config."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

from omegaconf import OmegaConf

from dpo_lab.config.check import ConfigError, find_shape_faults
from dpo_lab.config.overrides import review
from dpo_lab.config.source import Source
from dpo_lab.evaluation.settings import EvaluationSettings
from dpo_lab.paths import CONF_DIR

NAME = "evaluate"


def is_own(override: str) -> bool:
    """Whether an override is of an evaluation, and not of the run's config.

    >>> [is_own(text) for text in ("judge=endpoint", "judge.url=x", "+judge.model=m", "data=files")]
    [True, True, True, False]
    """
    head = override.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0]
    return head in {field.name for field in fields(EvaluationSettings)}


def compose_evaluation(overrides: Sequence[str]) -> dict[str, Any]:
    """``conf/evaluate.yaml`` with `overrides`, as `EvaluationSettings` takes it; `judge` is a node or None.

    Raises:
        ConfigError: with every fault.
    """
    reviewed = review(list(overrides), Source(str(CONF_DIR), NAME), multirun=False)
    plain = [_plain(config) for config in reviewed.configs]
    faults = reviewed.faults + [fault for config in plain for fault in find_shape_faults(config, EvaluationSettings)]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    return plain[0]


def _plain(config: Any) -> dict[str, Any]:
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))
