from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.model.architectures import write_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a saved random model, by architecture; written once, never to be changed."""

    @cache
    def write(name: str) -> Path:
        return write_model(tmp_path_factory.mktemp(name), name)

    return write
