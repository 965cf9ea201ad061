"""A training trajectory pinned to numbers, and the settings that must not move it."""

import json
from pathlib import Path

import pytest

from tests.small import SMALL, run_train

GOLDEN = Path(__file__).parent / "golden.json"

SAME_TRAJECTORY = {
    "whole windows": (),
    "micro-batches": ("trainer.micro_batch_size=3",),
    "one pair at a time": ("trainer.micro_batch_size=1",),
    "unfused optimizer": ("optimizer.fused=false",),
    "validated in between": ("trainer.validate_every=1",),
    "checkpointed in between": ("trainer.checkpoint_every=1",),
}


@pytest.mark.parametrize("name", SAME_TRAJECTORY)
def test_trajectory(name: str):
    """Losses and gradient norms of five steps, to 1e-5 relative: sums may come out in another order, no more."""
    golden = json.loads(GOLDEN.read_text())
    run = run_train(*SMALL, "optimizer.lr=3e-3", *SAME_TRAJECTORY[name])
    rows = [row for row in run.metrics if "train/loss" in row]
    assert [row["train/loss"] for row in rows] == pytest.approx(golden["train/loss"], rel=1e-5)
    assert [row["train/grad_norm"] for row in rows] == pytest.approx(golden["train/grad_norm"], rel=1e-4)
