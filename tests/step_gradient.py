"""The gradient of one optimizer step of any loss, on lists of three responses; also as one of several ranks.

As a program, ``python -m tests.step_gradient RANK NUM_RANKS STORE OUT NAME...`` is one rank and leaves in OUT the
gradients that it ends up with.
"""

import copy
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, distributed

from dpo_lab.assemble.instantiate import build_objective
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.report import DataReport
from dpo_lab.data.reviews import reviews
from dpo_lab.data.view import view_of
from dpo_lab.data.windows import WindowLoader
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.needs import Objective
from dpo_lab.reference.frozen import frozen
from tests.small import small_policy, train_module

CONF = Path(__file__).resolve().parents[1] / "conf"
NAMES = sorted(file.stem for file in (CONF / "loss").glob("*.yaml"))
MAX_LENGTH = 128


@cache
def read_objective(name: str) -> Objective:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = OmegaConf.to_container(compose("train", [f"loss={name}"]).loss, resolve=True)
    assert isinstance(node, dict)
    return build_objective({str(key): value for key, value in node.items()}, ("dpo_lab",))


@cache
def _policies(dropout: float) -> tuple[CausalLM, CausalLM]:
    return small_policy(seed=1, dropout=dropout), small_policy(seed=2)


@cache
def _encoded_lists(num_examples: int) -> EncodedDataset:
    policy, _ = _policies(0.0)
    source = reviews(num_pairs=num_examples, num_validation_pairs=1, num_demonstrations=1, num_responses=3)
    return encode_source(source.train, policy.encode, MAX_LENGTH, "error", DataReport(), policy.end_id)


def step_gradient(
    objective: Objective,
    *,
    num_items: int = 6,
    micro_batch_size: int | None = None,
    rank: int = 0,
    num_ranks: int = 1,
    dropout: float = 0.0,
    num_steps: int = 1,
) -> dict[str, Tensor]:
    """Gradient of the last of `num_steps` windows, by the name of each weight; no update is made.

    Policy and reference differ, so that nothing is 0; windows hold `num_items` items of the objective's own kind.
    """
    policy, other = copy.deepcopy(_policies(dropout))
    reference = frozen(other) if objective.needs_reference else None
    view = view_of(objective.needs, objective.best_alone, MAX_LENGTH)
    loader = WindowLoader(
        _encoded_lists(num_steps * num_items),
        view,
        policy.collate,
        seed=0,
        shuffle=False,
        global_batch_size=num_items,
        micro_batch_size=micro_batch_size,
        rank=rank,
        num_ranks=num_ranks,
    )
    found: dict[str, Tensor] = {}
    torch.manual_seed(5)
    train_module(policy, reference, objective, loader, num_steps=num_steps, make_optimizer=partial(_keep, found))
    return found


def _keep(found: dict[str, Tensor], policy: torch.nn.Module) -> Any:
    class Keep(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            found.update({n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None})

    optimizer = Keep(policy.parameters(), lr=0.0)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)


def main(rank: int, num_ranks: int, store: str, out: str, names: list[str]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=num_ranks)
    gradients = {
        name: step_gradient(read_objective(name), micro_batch_size=2, rank=rank, num_ranks=num_ranks, num_steps=2)
        for name in names
    }
    torch.save(gradients, out)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
