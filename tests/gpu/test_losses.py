"""Every loss gives on the device what it gives on a CPU, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning_fabric.utilities.apply_func import move_data_to_device
from omegaconf import OmegaConf
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.assemble.instantiate import build_objective
from dpo_lab.needs import Objective
from dpo_lab.paths import CONF_DIR
from tests.loss.batch import gradient, list_batch

NAMES = sorted(file.stem for file in (Path(CONF_DIR) / "loss").glob("*.yaml"))


def objective_of(name: str) -> Objective:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        node: Any = OmegaConf.to_container(compose("train", [f"loss={name}"]).loss, resolve=True)
    return build_objective(node, ("dpo_lab",))


def numbers(objective: Objective, device: str) -> list[Tensor]:
    """Loss, weight and reward of each term twice, with the state of the first time, and the gradient; on the CPU."""
    batch, states, found = list_batch(), None, []
    for _ in range(2):
        outputs = objective(move_data_to_device(batch.ingredients(), torch.device(device)), states)
        states = {name: output.state for name, output in outputs.items() if output.state is not None}
        for output in outputs.values():
            found += [output.loss, output.weight, *([] if output.reward is None else [output.reward])]
        total = torch.stack([(output.loss * output.weight).sum() for output in outputs.values()]).sum()
        found.append(gradient(total, batch.policy))
    return [tensor.detach().cpu() for tensor in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_gives_on_the_device_what_it_gives_on_a_cpu(name: str):
    objective = objective_of(name)
    torch.use_deterministic_algorithms(True)
    try:
        assert_close(numbers(objective, "cuda"), numbers(objective, "cpu"), atol=1e-12, rtol=1e-12)
    finally:
        torch.use_deterministic_algorithms(False)
