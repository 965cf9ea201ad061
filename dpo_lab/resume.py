"""What the config says about going on with an earlier run."""

from dataclasses import dataclass, field
from typing import Literal

Change = Literal["config", "data", "tokenizer", "model", "reference", "code", "versions"]
"""What may differ between a run and its continuation: the closed list of `resume.allow_change`.

config: any knob that is part of a run's id; data, tokenizer, model (the weights that training started from),
reference: their contents; code: the sources of dpo_lab; versions: Python and the packages that can move a number.
"""


@dataclass(frozen=True, kw_only=True)
class ResumeSettings:
    """Knobs under `resume`.

    Attributes:
        run: folder or id of the run to go on with; null is the run of this very config, where it is unfinished.
        allow_change: what may differ from when the checkpoint was made; anything else that differs is refused.
    """

    run: str | None = None
    allow_change: list[Change] = field(default_factory=list)
