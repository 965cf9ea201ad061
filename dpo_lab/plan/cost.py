"""What a plan will cost, from jobs and runs of the same kind that have run: measured, or not known."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from dpo_lab.errors import UserError
from dpo_lab.run.identity import COSMETIC_KEYS, canonical_json, without
from dpo_lab.run.read import read_info
from dpo_lab.sweep.record import JobFolder

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FREE_KEYS = (
    "logger",
    "runs_dir",
    "cache_dir",
    "name",
    "fresh",
    "resume",
    "sweep",
    "seed",
    "seeds",
    "data.seed",
    "data.split_seed",
    "data.reward_scale",
    "data.label_noise",
    "data.label_noise_seed",
    "optimizer",
    "plugins",
    "trainer.checkpoint_every",
    "trainer.keep_last",
    "trainer.best_metric",
    "trainer.best_mode",
    "trainer.clip_norm",
    "trainer.zero_gradient_ok",
    "reference.verify_rows",
)
"""What a run's time hardly depends on, beside the numbers of its loss."""


@dataclass(frozen=True)
class Cost:
    """Expected seconds of each run, one after the other; None of a run of which no kind was measured.

    `num_jobs` jobs of sweeps were the measure, and `num_runs` runs for themselves; `by_other_losses`: for some, only
    those with another loss.
    """

    seconds: list[float | None]
    num_jobs: int
    num_runs: int
    by_other_losses: bool

    @property
    def total(self) -> float:
        return sum(each for each in self.seconds if each is not None)

    @property
    def num_unknown(self) -> int:
        return self.seconds.count(None)


def expected_cost(configs: Sequence[Mapping[str, Any]], runs_dir: Path) -> Cost:
    """From what lies under `runs_dir` and was run from its beginning to its end: medians of a kind.

    The time of a job is that of its process. A run knows its own alone, without the seconds in which its process was
    started and its data and model were read, so it is asked where no job of its kind has finished.
    """
    jobs, runs = _by_kind(_finished_jobs(runs_dir)), _by_kind(_whole_runs(runs_dir))
    expected: list[float | None] = []
    used: tuple[set[Path], set[Path]] = set(), set()
    by_other_losses = False
    for config in configs:
        same, other = kind(config), kind(config, with_loss=False)
        tried = ((jobs, same), (runs, same), (jobs, other), (runs, other))
        source, name = next(((source, name) for source, name in tried if name in source), (jobs, same))
        found = source.get(name, {})
        used[source is runs].update(found)
        by_other_losses |= bool(found) and name == other
        expected.append(statistics.median(found.values()) if found else None)
    return Cost(expected, len(used[False]), len(used[True]), by_other_losses)


def _by_kind(measured: Iterable[tuple[Path, dict[str, Any], float]]) -> dict[str, dict[Path, float]]:
    """Seconds by `kind`, with the loss and without it."""
    found: defaultdict[str, dict[Path, float]] = defaultdict(dict)
    for path, config, seconds in measured:
        for name in (kind(config), kind(config, with_loss=False)):
            found[name][path] = seconds
    return dict(found)


def kind(config: Mapping[str, Any], *, with_loss: bool = True) -> str:
    """Equal for runs that take about as long: their configs less `FREE_KEYS` and less the numbers of the loss."""
    rest = without(config, {*FREE_KEYS, "loss"})
    rest["trainer"] = {**rest.get("trainer", {}), "num_threads": _num_threads(config)}
    return canonical_json({**rest, "loss": sorted(_targets(config.get("loss"))) if with_loss else None})


def _num_threads(config: Mapping[str, Any]) -> Any:
    """What a job of a sweep computes with."""
    return config.get("trainer", {}).get("num_threads") or config.get("sweep", {}).get("cpus_per_job", 1)


def finished_runs(runs_dir: Path) -> dict[str, Path]:
    """Finished runs under `runs_dir`, by `content_of` their configs."""
    return {content_of(config): path for path, config, _ in _finished(runs_dir)}


def _finished(runs_dir: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Folder, config and run.json of finished runs."""
    for file in sorted(runs_dir.glob("*/*/run.json")):
        info = _info(file.parent)
        if info.get("status") == "finished" and (config := _read_config(file.parent / "config.yaml")) is not None:
            yield file.parent, config, info


def content_of(config: Mapping[str, Any]) -> str:
    """Equal for configs of one run, as far as configs can say that: files may have changed under their names."""
    return canonical_json(without(config, set(COSMETIC_KEYS)))


def _finished_jobs(runs_dir: Path) -> Iterator[tuple[Path, dict[str, Any], float]]:
    for file in sorted((runs_dir / ".sweeps").glob("*/jobs/*/job.json")):
        folder = JobFolder(file.parent)
        job, config = folder.read(), _read_config(folder.config)
        if job is None or config is None or job.status != "finished" or job.was_finished or not job.seconds:
            continue
        if job.run is not None and not _info(Path(job.run)).get("resumed"):
            yield file, config, job.seconds


def _whole_runs(runs_dir: Path) -> Iterator[tuple[Path, dict[str, Any], float]]:
    for path, config, info in _finished(runs_dir):
        if info.get("resumed") or not info.get("finished"):
            continue
        seconds = (datetime.fromisoformat(info["finished"]) - datetime.fromisoformat(info["started"])).total_seconds()
        threads = {**config.get("trainer", {}), "num_threads": info.get("num_threads")}
        yield path, {**config, "trainer": threads}, seconds


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)


def _read_config(file: Path) -> dict[str, Any] | None:
    try:
        config = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def _info(path: Path) -> dict[str, Any]:
    try:
        return read_info(path)
    except UserError:  # damaged: `dpo-lab runs` tells of it
        return {}
