"""What every judge gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from dpo_lab.contest import Contest, Judged


class Judge(ABC):
    """Compares responses. Nothing is loaded, read or asked before `check`."""

    @property
    @abstractmethod
    def label(self) -> str:
        """How it is called in names of files: the kind, and the model where there is one."""

    @abstractmethod
    def check(self, say: Callable[[str], None]) -> None:
        """Refuse what cannot be had, within seconds and before anything heavy.

        Raises:
            UserError: saying what to do.
        """

    @abstractmethod
    def compare(self, contests: Sequence[Contest], say: Callable[[str], None]) -> list[Judged]:
        """One verdict a contest, in order.

        Raises:
            UserError: what it needs is not to be had after all.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What it is, for the record: all that a verdict depends on, and no secret."""


def by_rewards(first: float, second: float) -> Judged:
    """The verdict of whoever gives each response a number: more is better, the same is a tie."""
    score = 0.5 if first == second else float(first > second)
    return Judged(score, {"reward": first, "opponent_reward": second})
