"""What a cache of log-probs did for a run, and what can be wrong with it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from dpo_lab.errors import UserError
from dpo_lab.reference.cache_store import size
from dpo_lab.types import Encoded

Say = Callable[[str], object]

KeyedGroups = tuple[Sequence[Encoded], np.ndarray]
"""Prompts with their responses, and the key of each response in order, int64[n, 2]."""


class CacheMismatchError(UserError):
    """Log-probs of the cache are not those that the reference gives."""

    exit_code: ClassVar[int] = 1


class MissingRowsError(UserError):
    """A cache that has to hold every response does not."""


@dataclass
class CacheUse:
    """What the cache did for one run, in distinct responses. `seconds_saved` is what computing the hits once took.

    `rows_hash` is that of all log-probs that the run reads: rows that were computed in other batches, as in a cache
    that was first built for other data, differ in their last bits, and then so does every number of the run.
    """

    folder: str
    num_hits: int
    num_computed: int
    num_forward_passes: int
    num_verified: int
    num_bytes: int
    num_ignored_files: int
    seconds_saved: float
    seconds_computing: float
    rows_hash: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        """One line for people."""
        parts = [
            f"{self.num_hits} responses from the cache",
            f"{self.num_computed} computed ({self.num_forward_passes} forward passes)",
            size(self.num_bytes),
            f"saved about {self.seconds_saved:.{0 if self.seconds_saved >= 10 else 1}f} s",
        ]
        if self.num_verified:
            parts.append(f"{self.num_verified} computed again and equal")
        if self.num_ignored_files:
            parts.append(f"{self.num_ignored_files} damaged files ignored")
        return "reference: " + ", ".join(parts)
