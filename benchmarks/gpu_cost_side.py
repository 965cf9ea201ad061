"""One side of gpu_cost.py in a process of its own: reads a job, prints one JSON object.

    python benchmarks/gpu_cost_side.py JOB.json

"prepare" writes what all sides load; "dpo_lab" and "trl" train as in step_cost_side.py, under another clock. TRL's is
run by the interpreter of TRL's own environment, so each task imports what it needs itself.
"""

import json
import os
import random
import string
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from step_cost_side import Clock, Job, count_tokens, encoded_pairs, peak_bytes, train_dpo_lab, train_trl

LENGTHS = {"tiny": ((8, 64), (4, 32)), "0.5b": ((64, 768), (32, 512)), "1.5b": ((64, 768), (32, 512))}
"""Tokens of prompts and of responses, drawn evenly between these."""

SHAPES: dict[str, tuple[Any, ...]] = {
    "tiny": (64, 2, 2, 176, 2048, 1, True),
    "0.5b": (896, 24, 14, 4864, 151_936, 2, True),
    "1.5b": (1536, 28, 12, 8960, 151_936, 2, True),
}
"""`Shape` of a Qwen2; the last two are those of Qwen2.5-0.5B and Qwen2.5-1.5B."""


def prepare(job: Job) -> dict[str, Any]:
    """Write a model with random weights, pairs of random letters (a token each), and their token ids."""
    from synthetic import Shape, save_policy

    shape = Shape(*SHAPES[job["size"]])
    save_policy(shape, Path(job["model"]), job["device"])
    draw = random.Random(0)
    prompts, responses = LENGTHS[job["size"]]

    def text(lengths: tuple[int, int]) -> str:
        return "".join(draw.choices(string.ascii_letters, k=draw.randint(*lengths)))

    rows = [
        {"prompt": text(prompts), "chosen": text(responses), "rejected": text(responses)}
        for _ in range(job["steps"] * job["pairs_a_step"])
    ]
    Path(job["data"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = encoded_pairs({**job, "device": "cpu", "overrides": []})
    Path(job["pairs"]).write_text(json.dumps(pairs))
    return {
        "shape": shape._asdict(),
        "flops_a_pair": sum(least_flops(shape, *map(len, pair)) for pair in pairs) / len(pairs),
        **count_tokens(pairs, job["pairs_a_step"]),
    }


def least_flops(shape: Any, prompt: int, chosen: int, rejected: int) -> float:
    """Of a forward and a backward pass over a pair: the prompt once, no padding, the head where a token is decided.

    2 for each weight and token, 4 for each channel of attention and pair of positions that see each other; the backward
    pass costs twice the forward pass.
    """
    head_size = shape.hidden_size // shape.num_heads
    key_value = 2 * head_size * (shape.num_key_value_heads or shape.num_heads)
    attention = shape.hidden_size * (2 * shape.hidden_size + key_value)
    layer = attention + 3 * shape.hidden_size * shape.intermediate_size
    seen = prompt * (prompt + 1) / 2 + sum(n * prompt + n * (n + 1) / 2 for n in (chosen, rejected))
    body = 2 * layer * (prompt + chosen + rejected) + 4 * shape.hidden_size * seen
    return 3 * (shape.num_layers * body + 2 * shape.vocab_size * shape.hidden_size * (chosen + rejected))


def train(job: Job) -> dict[str, Any]:
    """Seconds of each step, and the peak of the device's memory after the first."""
    import torch

    is_cuda = job["device"] == "cuda"

    def read() -> float:
        if is_cuda:
            torch.cuda.synchronize()
            if not clock.times:  # before the first step a cache may have been built
                torch.cuda.reset_peak_memory_stats()
        return time.perf_counter()

    clock = Clock(read)
    found = (train_trl if job["task"] == "trl" else train_dpo_lab)(job, clock, lambda: wait_for_turn(job))
    return {
        "step_seconds": found["step_cpu_seconds"],
        "losses": found["losses"],
        "versions": found["versions"],
        "peak_bytes": torch.cuda.max_memory_allocated() if is_cuda else peak_bytes(),
        "device": torch.cuda.get_device_name() if is_cuda else "cpu",
    }


def wait_for_turn(job: Job) -> None:
    """Say that all is ready, and wait until no other side trains."""
    if "turn" in job:
        Path(job["turn"] + ".ready").touch()
        while not Path(job["turn"] + ".go").exists():
            time.sleep(0.05)


def main(path: Path) -> None:
    """Do the job; whatever else is printed on the way goes to stderr."""
    os.environ.update(WANDB_MODE="disabled", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    job = json.loads(path.read_text())
    with redirect_stdout(sys.stderr):
        result = prepare(job) if job["task"] == "prepare" else train(job)
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
