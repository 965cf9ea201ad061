"""The top level of a run's config, declared once: what `dpo_lab.config.check` compares a config with."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator

from dpo_lab.ranges import NonNegativeInt, Seed
from dpo_lab.resume import ResumeSettings
from dpo_lab.sampling import SampleSettings
from dpo_lab.sweep.settings import SweepSettings

Component = Callable[..., Any]
"""A node with ``_target_``: what one file of a config group says. Its keys are the target's keyword-only arguments."""

MAX_NAME_BYTES = 128
"""Half of what file systems take, since names of other files begin with it."""


def _can_name_a_folder(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError("must name a folder: letters, digits, '_', '-', '.', beginning with a letter, digit or '_'")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"must name a folder, in at most {MAX_NAME_BYTES} bytes")
    return name


FolderName = Annotated[str, AfterValidator(_can_name_a_folder)]


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """One seed per source of randomness; null derives it from the run's `seed`."""

    order: Seed | None = None
    init: Seed | None = None
    dropout: Seed | None = None
    sampling: Seed | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Every top-level key of a run's config. `plugins` names packages outside dpo_lab that may hold a ``_target_``."""

    model: Component
    data: Component
    prepare: dict[str, Component] = field(default_factory=dict)
    loss: Component
    reference: Component
    start: Component | None = None
    optimizer: Component
    trainer: Component
    logger: Component
    name: FolderName
    seed: NonNegativeInt
    seeds: Seeds = Seeds()
    runs_dir: str
    cache_dir: str
    fresh: bool = False
    resume: ResumeSettings = field(default_factory=ResumeSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    samples: SampleSettings = field(default_factory=SampleSettings)
    plugins: list[str] = field(default_factory=list)
