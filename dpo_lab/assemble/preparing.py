"""The steps of a config that rows go through before a run sees them."""

from collections.abc import Mapping
from typing import Any

from dpo_lab.assemble.instantiate import instantiate
from dpo_lab.data.preparation import BeforeSplit, Preparation

PREPARE = "prepare"


def build_preparation(config: Mapping[str, Any]) -> Preparation:
    """The steps of `config` in their order; it may be of before there were any.

    Raises:
        UserError: the knobs of a step contradict each other, or a file of it cannot be read.
    """
    packages = ("dpo_lab", *config["plugins"])
    return Preparation({name: instantiate(node, packages) for name, node in config.get(PREPARE, {}).items()})


def of_every_row(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` without the steps on training rows alone: for rows that are looked at and not trained on.

    Raises:
        UserError: as `build_preparation`.
    """
    steps = build_preparation(config).steps
    kept = {name: node for name, node in config.get(PREPARE, {}).items() if isinstance(steps[name], BeforeSplit)}
    return {**config, PREPARE: kept} if PREPARE in config else dict(config)
