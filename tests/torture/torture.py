"""Kill runs at random moments, give the same command again, and compare what comes out with the run left in peace."""

import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from omegaconf import DictConfig

from dpo_lab.run.kept import newest_sound
from dpo_lab.run.read import read_info, read_rows
from tests.torture.processes import NUM_STEPS, Child, config, left_behind, start, wait_for_save, wait_for_step

KINDS = {
    "dropout, micro-batches": ("model.dropout=0.2", "trainer.micro_batch_size=3", "logger.every_n_steps=3"),
    "bco, moving reference": ("loss=bco", "reference=ema", "reference.decay=0.9"),
    "beta_dpo, LoRA, best kept": ("loss=beta_dpo", "model.lora_rank=2", "trainer.save=best", "trainer.keep_last=2"),
}
"""What is killed: between them, all that a checkpoint holds."""

TWO_PROCESSES = {"two processes": ("trainer.num_devices=2", "trainer.micro_batch_size=3", "model.dropout=0.2")}
"""Killed by the hundred alone: a run of two processes takes some seconds to begin."""

COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "loader", "generators", "loss_states", "reference_state")
"""What has to be equal in the last checkpoints of two runs, all but the record."""

SAVING = ("while a checkpoint was written", "while a manifest was written", "between a checkpoint and its manifest")
"""Of the places where a kill can come, those in the middle of a save."""

TOO_LATE = "(the run had ended: not counted)"

MAX_KILLS_OF_A_RUN = 3
SECONDS = 300.0


class TortureError(AssertionError):
    """A run that was interrupted did not come to what the run left in peace came to."""


@dataclass
class Hits:
    """Where the signals came, and how long the process took to end, seconds."""

    places: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    num_runs: int = 0


@dataclass(frozen=True)
class Whole:
    """A run left in peace: `folder` is what interrupted ones must come to; `seconds` is how long it took."""

    config: DictConfig
    folder: Path
    cache: Path
    seconds: float


def run_whole(root: Path, name: str, overrides: tuple[str, ...], *, num: int = 2) -> Whole:
    """Run the whole of one kind, `num` times: the first fills the caches, the last is timed."""
    cfg, cache = config(*overrides), root / "cache" / name
    begun = time.monotonic()
    for number in range(num):
        begun = time.monotonic()
        child = start(cfg, root / "whole" / name / str(number), cache)
        expect(child.wait() == 0, child, "the run left in peace failed")
    (folder,) = (root / "whole" / name / str(num - 1)).glob("*/*/")
    return Whole(cfg, folder, cache, time.monotonic() - begun)


def kill_at_random(root: Path, whole: Whole, draw: random.Random, num_kills: int, hits: Hits) -> None:
    """Kill runs `num_kills` times, half of them while a checkpoint is being written, and compare each at its end."""
    done = 0
    while done < num_kills:
        place, cache = root / f"kill-{hits.num_runs}", whole.cache
        if draw.random() < 0.2:
            cache = place / "cache"  # none yet: what fills it may be killed as well
        for _ in range(draw.randint(1, MAX_KILLS_OF_A_RUN)):
            if done == num_kills:
                break
            child = start(whole.config, place, cache)
            if draw.random() < 0.5:
                if wait_for_save(child, draw.randint(1, 12), SECONDS):
                    time.sleep(draw.uniform(0, 0.004))
            else:
                time.sleep(draw.uniform(0, whole.seconds))
            is_in_time = child.is_alive()
            child.kill()
            done += is_in_time
            hits.places[_place(child) if is_in_time else TOO_LATE] += 1
        finish(whole, place, cache)
        hits.num_runs += 1


def terminate_at_random(root: Path, whole: Whole, draw: random.Random, num: int, hits: Hits) -> None:
    """End runs by SIGTERM `num` times: a checkpoint within one optimizer step, another exit code than 0."""
    for _ in range(num):
        place = root / f"term-{hits.num_runs}"
        child = start(whole.config, place, whole.cache)
        if draw.random() < 0.75:
            wait_for_step(child, draw.randint(1, NUM_STEPS), SECONDS)
            time.sleep(draw.uniform(0, 0.02))
        else:
            time.sleep(draw.uniform(0, whole.seconds))
        begun = time.monotonic()
        num_steps, code = child.terminate(signal.SIGTERM)
        hits.seconds.append(time.monotonic() - begun)
        status = _status(child)
        expect(code != 0 or status == "finished", child, f"exit code {code} after SIGTERM")
        if status == "interrupted" and num_steps > 0:
            folder = child.checkpoints
            kept = None if folder is None else newest_sound(folder, print)
            expect(kept is not None, child, f"SIGTERM after step {num_steps} left no checkpoint")
            assert kept is not None
            expect(kept.step - num_steps in (0, 1), child, f"told after step {num_steps}, saved after {kept.step}")
        hits.places[f"SIGTERM: {_place(child)}, exit code {code}"] += 1
        finish(whole, place, whole.cache)
        hits.num_runs += 1


def compare(found: Path, whole: Path) -> list[str]:
    """Names of what differs, bit for bit, between two run folders."""
    different = [
        name
        for name in ("metrics.jsonl", "samples.jsonl", "model/model.safetensors")
        if (found / name).read_bytes() != (whole / name).read_bytes()
    ]
    tables = [pyarrow.parquet.read_table(path / "predictions.parquet") for path in (found, whole)]
    if not tables[0].equals(tables[1]):
        different.append("predictions.parquet")
    steps = [[row["step"] for row in read_rows(path / "timing.jsonl")] for path in (found, whole)]
    if steps[0] != steps[1]:
        different.append("steps of timing.jsonl")
    kept = [newest_sound(path / "checkpoints", print) for path in (found, whole)]
    if kept[0] is None or kept[1] is None:
        return [*different, "a checkpoint is missing"]
    one, other = kept[0].content, kept[1].content
    return different + [f"{part} of the last checkpoint" for part in COMPARED if not _same(one[part], other[part])]


def finish(whole: Whole, place: Path, cache: Path) -> None:
    """Give the command of `whole` once more in `place`.

    Raises:
        TortureError: it fails, or comes to something else than `whole`.
    """
    child = start(whole.config, place, cache)
    code = child.wait()
    expect(code == 0, child, f"the same command again ended with {code}")
    folders = [path for path in child.folder.iterdir() if (path / "run.json").exists()]
    expect(len(folders) == 1, child, f"{len(folders)} folders of one run")
    different = compare(folders[0], whole.folder)
    expect(not different, child, f"differs from the run left in peace: {', '.join(different)}")
    expect(not left_behind(folders[0]), child, f"left behind: {left_behind(folders[0])}")


def _place(child: Child) -> str:
    """What a signal hit, as the folder shows it."""
    status, checkpoints = _status(child), child.checkpoints
    if status is None:
        return "before the folder was claimed"
    if status == "finished":
        return "after the end"
    files = [] if checkpoints is None else [path.name for path in checkpoints.iterdir()]
    manifests = {name.partition(".")[0] for name in files if name.endswith(".json") and not name.startswith(".")}
    if any(".ckpt." in name for name in files):
        return SAVING[0]
    if any(name.endswith(".partial") for name in files):
        return SAVING[1]
    if {name.partition(".")[0] for name in files if name.endswith(".ckpt")} - manifests:
        return SAVING[2]
    if not files:
        return "before the first checkpoint"
    return "after the last step" if f"step-{NUM_STEPS:08d}" in manifests else "between two saves"


def _status(child: Child) -> str | None:
    found = [read_info(path) for path in child.folder.glob("*/") if not path.name.startswith(".")]
    return found[0]["status"] if found else None


def expect(holds: bool, child: Child, message: str) -> None:
    """
    Raises:
        TortureError: with `message`, where it is and what it said, unless `holds`.
    """
    if not holds:
        log = child.log.read_text()[-3000:] if child.log.exists() else ""
        raise TortureError(f"{message}\n{child.folder}\n{log}")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return json.dumps(one) == json.dumps(other)
