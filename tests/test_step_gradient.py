"""The gradient of a step is the same however it is computed: for every loss, also where it sees the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.step_gradient import NAMES, read_objective, step_gradient

every_loss = pytest.mark.parametrize("name", NAMES)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-6) -> None:
    """To rounding in float32, in proportion to the whole gradient."""
    size = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    gap = torch.stack([(found[key] - gradient).norm() for key, gradient in expected.items()]).norm()
    assert size > 1e-5
    assert gap <= tolerance * size


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, Tensor]]:
    return {name: step_gradient(read_objective(name)) for name in NAMES}


@every_loss
@pytest.mark.parametrize("micro_batch_size", [4, 1])
def test_micro_batches_do_not_matter(name: str, micro_batch_size: int, whole: dict[str, dict[str, Tensor]]):
    """Six items at once, as 4 + 2 and one by one."""
    assert_same(step_gradient(read_objective(name), micro_batch_size=micro_batch_size), whole[name])


def test_two_ranks_and_one_rank_agree(root: Path, tmp_path: Path):
    """Two processes, each with half of a window in micro-batches of 2, both end with the gradient of one process.

    The second step, so that a state carried over from the first has to agree as well.
    """
    outs = [tmp_path / f"rank{rank}.pt" for rank in range(2)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.step_gradient", str(rank), "2", str(tmp_path / "store"), str(out), *NAMES],
            cwd=root,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    first, second = (torch.load(out, weights_only=True) for out in outs)
    for name in NAMES:
        alone = step_gradient(read_objective(name), num_steps=2)
        assert_same(first[name], alone)
        assert_same(second[name], first[name], tolerance=0)


@pytest.mark.parametrize("name", ["kto", "aot"])
def test_the_second_pass_drops_out_what_the_first_did(name: str, monkeypatch: pytest.MonkeyPatch):
    """A window in one micro-batch takes a single pass. Made to take two, it gives the same gradient, noise and all."""
    objective = read_objective(name)
    assert objective.whole_batch
    single = step_gradient(objective, num_items=4, dropout=0.3)
    monkeypatch.setattr("dpo_lab.module.num_ranks", lambda: 2)
    assert_same(step_gradient(objective, num_items=4, dropout=0.3), single)
    monkeypatch.setattr("dpo_lab.module.set_global_generators", lambda states: None)
    with pytest.raises(AssertionError):
        assert_same(step_gradient(objective, num_items=4, dropout=0.3), single)
