"""What the trainer is told of operations that do not repeat their sums."""

from collections.abc import Iterator

import pytest
import torch

from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.trainer import TrainerSettings


@pytest.fixture(autouse=True)
def settings_put_back() -> Iterator[None]:
    with computing(1):
        yield
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("is_deterministic", "warns"), [(True, False), (False, True)])
def test_they_raise_unless_they_are_allowed(is_deterministic: bool, warns: bool):
    """Allowed, they warn on a GPU; everywhere else all sums repeat."""
    settings = TrainerSettings(deterministic=is_deterministic, zero_gradient_ok=[])
    make_trainer(settings, num_steps=1, callbacks=[], validate_every=None)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled() == warns
