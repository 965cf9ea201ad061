"""Run folders for loggers to mirror."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dpo_lab.run import RunFolder


@pytest.fixture
def claim(workplace: Path) -> Iterator[Callable[[str], RunFolder]]:
    """Claims a run folder under ``runs/demo`` by its id, and lets it go after the test."""
    with ExitStack() as claimed:
        yield lambda id: claimed.enter_context(RunFolder.claim(workplace / "runs", "demo", id))
