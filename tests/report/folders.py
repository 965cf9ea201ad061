"""Run folders made of numbers, for tests of reports: all that a report reads, nothing trained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dpo_lab.run.predictions import SCHEMA

HASHES = {"data": "da7a", "initial_weights": "1417", "reference": "4ef"}


def write_run(
    runs_dir: Path,
    *,
    loss: str = "sigmoid",
    beta: float = 0.1,
    seed: int = 0,
    metrics: Sequence[Mapping[str, float]] = (),
    config: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    pairs: Mapping[str, Any] | None = None,
    name: str = "made",
    id: str | None = None,
) -> Path:
    """Write one run folder and return its path; `config` and `info` go over what is there."""
    folder = runs_dir / name / (id or f"{loss}-{beta:g}-{seed}")
    folder.mkdir(parents=True)
    composed = {
        "loss": {"_target_": f"dpo_lab.loss.{loss}.{loss}", "beta": beta},
        "optimizer": {"_target_": "dpo_lab.optimizer.adamw.adamw", "lr": 1e-3},
        "trainer": {"precision": "32-true", "num_threads": None},
        "seed": seed,
        "seeds": {"order": None},
        "name": name,
        **(config or {}),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(composed, sort_keys=False))
    (folder / "overrides.yaml").write_text(yaml.safe_dump([f"loss={loss}", f"seed={seed}"]))
    code = {"hash": "c0de" * 16, "commit": None, "dirty": None}
    record = {
        "status": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "sweep": None,
        "python": "3.11.7",
        "packages": {"torch": "2.13.0"},
        "code": code,
        "hashes": HASHES,
        **(info or {}),
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    timing = {"step": 1, "seconds": 2.0, "items_per_second": 4.0, "peak_memory_bytes": 2**20}
    (folder / "timing.jsonl").write_text(json.dumps(timing) + "\n")
    if pairs is not None:
        write_pairs(folder, **pairs)
    return folder


def write_pairs(
    folder: Path,
    *,
    chosen: Sequence[float],
    rejected: Sequence[float],
    chosen_length: Sequence[float] | None = None,
    rejected_length: Sequence[float] | None = None,
    beta: float = 1.0,
    step: int = 2,
    split: str = "val",
    prompts: Sequence[int] | None = None,
) -> None:
    """Write predictions of pairs 0, 1, ... with log-ratios `chosen` and `rejected`; the reference says -10 nats.

    `prompts` are numbers; unless given each pair has a prompt of its own.
    """
    count = len(chosen)
    lengths = [chosen_length or [5] * count, rejected_length or [5] * count]
    shifts = np.stack([chosen, rejected], axis=1).reshape(-1)
    table = {
        "step": [step] * (2 * count),
        "split": [split] * (2 * count),
        "key": [f"{number:032x}" for number in range(2 * count)],
        "group": np.repeat(np.arange(count), 2),
        "role": ["chosen", "rejected"] * count,
        "policy_log_prob": shifts - 10.0,
        "reference_log_prob": [-10.0] * (2 * count),
        "length": np.stack(lengths, axis=1).reshape(-1).astype(np.int64),
        "reward": beta * shifts,
        "prompt": [f"{number:032x}" for number in np.repeat(range(count) if prompts is None else prompts, 2)],
    }
    pq.write_table(pa.table(table, schema=SCHEMA), folder / "predictions.parquet")


def rows(accuracy: float, *, kl: float | None = None, **more: float) -> list[dict[str, float]]:
    """Two logged steps: 0.5 before any update, `accuracy` (and KL) after step 2."""
    last = {"step": 2, "val/rewards/accuracies": accuracy, "train/loss": 0.6, **more}
    return [{"step": 0, "val/rewards/accuracies": 0.5}, last | ({} if kl is None else {"samples/kl": kl})]
