"""Being told to stop: Ctrl-C, SIGTERM, and SIGUSR1, by which SLURM says that it will take the machine back."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

STOP_CODES = tuple(128 + number for number in SIGNALS)
"""Exit codes of a run that was told to stop, as a shell gives them: 130 Ctrl-C, 143 SIGTERM, 138 SIGUSR1."""


class Stopped(SystemExit):
    """The run ends because a signal said so. `code` is its exit code."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(128 + number)
        self.number = number


@final
class Interruption:
    """Whether the process was told to stop: `received` is the first signal, None before there is one.

    It raises `Stopped` at once, but while `deferring`: there it waits until the work at hand has come to a point
    where it can be kept, and asks `received`. Ctrl-C after any signal always ends at once; further signals of the
    other kinds change nothing, since those who send them often send several.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._is_deferring = False
        self._heard: list[signal.Signals] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle `SIGNALS` in the block; what handled them before is put back after it.

        A signal that is ignored when the process starts (Ctrl-C of what a shell starts in the background) stays so.
        Outside of the main thread Python has no signals, and nothing happens.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        self.hear()
        try:
            yield
        finally:
            self._heard = []
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def hear(self) -> None:
        """Handle the signals alone, where a library has put a handler of its own before; nothing outside `listening`.

        Lightning's for SIGTERM ends training between two steps, whether there is a checkpoint or not.
        """
        for number in self._heard:
            signal.signal(number, self._handle)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """In the block the first signal only sets `received`.

        Raises:
            Stopped: at the end of the block, where a signal came after whoever asks had asked for the last time.
        """
        self._is_deferring = True
        try:
            yield
        finally:
            self._is_deferring = False
        self.stop_if_told()

    def stop_if_told(self) -> None:
        """
        Raises:
            Stopped: a signal was received.
        """
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        told, is_first = signal.Signals(number), self.received is None
        if is_first:
            self.received = told
        if is_first and self._is_deferring:
            # Past Python's own buffers, in the middle of whose writing this may be called.
            os.write(2, f"{told.name}: ending after this step; Ctrl-C ends at once\n".encode())
        elif is_first or told == signal.SIGINT:
            raise Stopped(told)
