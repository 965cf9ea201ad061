"""The saved config of a run, as another verb runs it: disturbing neither the run nor W&B."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.config.saved import saved_config
from dpo_lab.resume import ResumeSettings


def config_of_run(
    saved: Mapping[str, Any], info: Mapping[str, Any], overrides: Sequence[str], *, runs_dir: Path
) -> dict[str, Any]:
    """The saved config with `overrides`, and with what it takes to come to the same bits.

    That is the number of threads that the run had, and its folder of caches where that is still there: it holds the
    very log-probs that the run has read. Without an override the logger is the run folder alone.

    Raises:
        ConfigError: see `saved_config`.
    """
    config = dict(saved)
    if not any(name_of(text).split(".")[0] == "logger" for text in overrides):  # one run, one W&B run
        logger = config.get("logger")
        every = logger.get("every_n_steps", 1) if isinstance(logger, dict) else 1
        config["logger"] = {"_target_": "dpo_lab.logger.local.local", "every_n_steps": every}
    config |= {"fresh": False, "resume": vars(ResumeSettings())}
    config |= {"runs_dir": str(runs_dir), "cache_dir": _cache_dir(config.get("cache_dir"))}
    threads, trainer = info.get("num_threads"), config.get("trainer")
    if isinstance(threads, int) and threads > 0 and isinstance(trainer, dict):
        config["trainer"] = {**trainer, "num_threads": threads}
    return saved_config(config, overrides)


def name_of(override: str) -> str:
    """The dotted key, or the group, that an override is of.

    >>> name_of("+loss.beta=1"), name_of("loss@loss.base=ipo")
    ('loss.beta', 'loss.base')
    """
    return override.lstrip("+~").partition("=")[0].rpartition("@")[2]


def heads_of(overrides: Sequence[str]) -> set[str]:
    """Top-level keys that overrides are of."""
    return {name_of(text).split(".")[0] for text in overrides}


def _cache_dir(named: Any) -> str:
    try:
        return named if isinstance(named, str) and Path(named).expanduser().is_dir() else "cache"
    except (RuntimeError, OSError):  # no home of that name; no name that a file could have
        return "cache"
