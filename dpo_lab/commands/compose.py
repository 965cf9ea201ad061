"""The config of one run, for verbs that train nothing."""

from typing import Any, cast

from omegaconf import OmegaConf

from dpo_lab.config import ConfigError, find_faults
from dpo_lab.config.overrides import review
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR


def compose(overrides: list[str]) -> dict[str, Any]:
    """The resolved config that ``dpo-lab train`` would run with `overrides`.

    Raises:
        ConfigError: with every fault of the overrides and of the config that they make.
    """
    reviewed = review(overrides, Source(str(CONF_DIR), "train"), multirun=False)
    faults = reviewed.faults + [fault for config in reviewed.configs for fault in find_faults(config)]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    config = reviewed.configs[0]
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))
