"""Prints, as JSON, how far compiled layers are from plain ones:
`python -m tests.model.compiled_layers FOLDER [DEVICE]`."""

import json
import sys

import torch
from torch import Tensor

from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.types import Encoded

SHORT = [Encoded((1, 20, 31), ((40, 2), (41, 42, 43, 2))), Encoded((1,), ((5, 6),))]
MANY = [Encoded((1, *range(20, 21 + n)), ((40, *[7] * n, 2), (41, *[9] * (2 * n), 2))[: 1 + n % 3]) for n in range(8)]
LONG = [Encoded((1, 20, 31, 7, 8), ((40, 2, 4), (41, 42, 43, 2, 1, 1))), Encoded((1, 3), ((5, 6, 2),))]


def step(policy: CausalLM, groups: list[Encoded]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs, and gradients of the square of their sum."""
    policy.zero_grad()
    device = next(policy.parameters()).device
    token = policy.log_prob({name: tensor.to(device) for name, tensor in policy.collate(groups).items()}).token
    (token.sum() ** 2).backward()
    return token.detach(), {name: t.grad.clone() for name, t in policy.named_parameters() if t.grad is not None}


def main(folder: str, device: str = "cpu") -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # as while training
    plain, compiled = (causal_lm(path=folder, compile=is_compiled).to(device) for is_compiled in (False, True))
    log_probs, gradients = 0.0, 0.0
    for groups in (SHORT, LONG, MANY, MANY[:5], MANY[2:]):
        (token, wanted), (other, found) = step(plain, groups), step(compiled, groups)
        log_probs = max(log_probs, float((token - other).abs().max()))
        gaps = (float((found[name] - tensor).norm() / tensor.norm()) for name, tensor in wanted.items())
        gradients = max(gradients, *gaps)
    first, again = step(compiled, SHORT)[1], step(compiled, SHORT)[1]
    said = {
        "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "log_probs": log_probs,
        "gradients": gradients,
        "repeats": all(torch.equal(again[name], tensor) for name, tensor in first.items()),
        "same_names": list(compiled.state_dict()) == list(plain.state_dict()),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
