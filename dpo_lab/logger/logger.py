"""What a mirror of the run folder is. The folder is the record; nothing is read from here."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dpo_lab.run.folder import RunFolder, Status, status_after


class Logger(ABC):
    """Gets what the run folder gets, while it runs. After `start`, nothing it does may end a run.

    `every_n_steps`: how often a training step is logged at all; see `wants`.
    """

    every_n_steps: int = 1

    def wants(self, step: int) -> bool:
        """Whether training step `step` (1 = before update 1) is a logged one: the first always is."""
        return step == 1 or step % self.every_n_steps == 0

    @abstractmethod
    def check(self) -> None:
        """Refuse what cannot be had, before anything heavy.

        Raises:
            UserError: saying what to do.
        """

    @abstractmethod
    def start(self, run: RunFolder, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Begin: `config` resolved and plain, `info` what run.json says.

        Raises:
            UserError: what was asked for cannot be had, and the message says what to do.
        """

    @abstractmethod
    def metrics(self, step: int, row: Mapping[str, float]) -> None:
        """One logged step, on the clock of optimizer steps."""

    @abstractmethod
    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Text to look at: samples."""

    @abstractmethod
    def summary(self, values: Mapping[str, Any]) -> None:
        """Single values of the whole run."""

    @abstractmethod
    def finish(self, status: Status) -> None:
        """End. Without `start`, or a second time, nothing happens."""

    @contextmanager
    def mirroring(self, run: RunFolder, config: Mapping[str, Any], info: Mapping[str, Any]) -> Iterator[None]:
        """Start, and finish however the block is left, exceptions and Ctrl-C included."""
        self.start(run, config, info)
        try:
            yield
        except BaseException as error:
            self.finish(status_after(error))
            raise
        self.finish("finished")
