"""`logger=local`: the run folder, and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any, final

from dpo_lab.logger.logger import Logger
from dpo_lab.ranges import PositiveInt
from dpo_lab.run.folder import RunFolder, Status


def local(*, every_n_steps: PositiveInt = 1) -> Logger:
    """Mirror nothing: metrics.jsonl and the rest of the run folder are written with any logger."""
    return LocalLogger(every_n_steps)


@final
class LocalLogger(Logger):
    """Has nothing to do."""

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps

    def check(self) -> None:
        pass

    def start(self, run: RunFolder, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        pass

    def metrics(self, step: int, row: Mapping[str, float]) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def summary(self, values: Mapping[str, Any]) -> None:
        pass

    def finish(self, status: Status) -> None:
        pass
