"""A configuration tree and a config without faults, both on stub targets."""

from pathlib import Path
from typing import Any

import pytest

from tests.config.stub_conf import TARGETS, write_conf


@pytest.fixture
def conf_dir(tmp_path: Path) -> Path:
    """Absolute folder of a small tree in the shape of ``conf/``."""
    return write_conf(tmp_path)


@pytest.fixture
def cfg() -> dict[str, Any]:
    """A plain config without a fault."""
    return {
        "model": {"_target_": f"{TARGETS}.model", "path": "owner/name"},
        "data": {"_target_": f"{TARGETS}.data"},
        "loss": {"_target_": f"{TARGETS}.sigmoid", "beta": 0.1},
        "reference": {"_target_": f"{TARGETS}.anything"},
        "optimizer": {"_target_": f"{TARGETS}.anything", "lr": 0.1},
        "trainer": {"_target_": f"{TARGETS}.Trainer", "max_steps": 3, "max_epochs": None},
        "logger": {"_target_": f"{TARGETS}.anything"},
        "name": "test",
        "seed": 0,
        "runs_dir": "runs",
        "cache_dir": "cache",
        "plugins": [TARGETS],
    }
