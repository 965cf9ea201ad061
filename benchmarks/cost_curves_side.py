"""One point of cost_curves.py in a process of its own: reads a point as JSON, prints what it costs as JSON.

python benchmarks/cost_curves_side.py '{"hidden_size": 256, ...}'
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import torch
from step_cost_side import peak_bytes
from synthetic import Shape, Step, make_groups, make_policy, num_unique_tokens

from dpo_lab.model import grouped_scoring


def resident_bytes() -> int:
    """What is in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def forget_peak() -> None:
    """Have `peak_bytes` begin anew from what is in memory now."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(point: dict[str, Any]) -> dict[str, Any]:
    """CPU seconds of each step, and the memory that a step takes above weights, optimizer state and libraries."""
    torch.set_num_threads(1)
    shape = Shape(*(point[name] for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab")))
    policy = make_policy(shape, point["attention"])
    step = Step(policy)
    num_groups, k = point["groups"], point["responses"]
    groups = make_groups([point["prompt"]] * num_groups, [[point["response"]] * k] * num_groups, shape.vocab_size)
    step(make_groups([4], [[4] * k], shape.vocab_size))  # makes the optimizer's state, and loads code
    before, logits, seconds = resident_bytes(), LargestLogits(), []
    forget_peak()
    with patch.object(grouped_scoring, "decision_logits", logits):
        for _ in range(point["steps"]):
            began = time.process_time()
            loss = step(groups)
            seconds.append(time.process_time() - began)
    num_weights = sum(tensor.numel() for tensor in policy.parameters())
    return {
        "cpu_seconds": seconds,
        "peak_bytes": peak_bytes(),
        "step_bytes": peak_bytes() - before,
        "gradient_bytes": 4 * num_weights,
        "largest_logits_bytes": logits.num_bytes,
        "num_weights": num_weights,
        "unique_tokens": num_unique_tokens(groups),
        "real_tokens": num_groups * k * (point["prompt"] + point["response"]),
        "loss": float(loss),
    }


class LargestLogits:
    """`decision_logits`, with the size of the largest tensor of logits that it has made; 0 of a padded pass."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._inner = grouped_scoring.decision_logits

    def __call__(self, *given: Any) -> torch.Tensor:
        logits = self._inner(*given)
        self.num_bytes = max(self.num_bytes, logits.numel() * logits.element_size())
        return logits


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
