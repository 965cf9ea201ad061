"""In what runs differ besides their configs: versions, code, machine; and what they cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dpo_lab.report.cells import Cell
from dpo_lab.report.records import RunRecord
from dpo_lab.run.provenance import DECISIVE


class Difference(NamedTuple):
    """A property of the environment with several values.

    How many runs in the figures have each (`counts`) and how many others (`counts_of_unused`); whether cells differ
    in it.
    """

    name: str
    counts: dict[str, int]
    counts_of_unused: dict[str, int]
    is_confounded: bool


def environment(record: RunRecord) -> dict[str, str]:
    """What can move a number and is no config: python, packages, device, threads, code."""
    info = record.info
    packages, code, platform = (_mapping(info.get(name)) for name in ("packages", "code", "platform"))
    found = {"python": info.get("python"), **{name: packages.get(name) for name in DECISIVE}}
    found |= {name: info.get(name) for name in ("device", "cuda", "cpu_capability", "num_threads")}
    found |= {"machine": platform.get("machine"), "system": platform.get("system")}
    found["code of dpo_lab"] = None
    commit, digest = str(code.get("commit") or "")[:10], str(code.get("hash") or "")[:10]
    changed = " with changes" if code.get("dirty") else ""
    if digest or commit:
        found["code of dpo_lab"] = f"sources {digest}" + (f", commit {commit}{changed}" if commit else "")
    return {name: "none" if value is None else str(value) for name, value in found.items()}


def differences(cells: Sequence[Cell], unused: Sequence[RunRecord] = ()) -> list[Difference]:
    """What differs between the runs of `cells` and `unused`; confounded: between runs of one seed of `cells`.

    Where every cell has the same values of a property for the same seeds, it cannot explain a difference of cells. A
    run that failed early has not recorded all of its properties; what it lacks is no difference.
    """
    others = [environment(record) for record in unused if record.info]
    runs = [(cell, seed, environment(run)) for cell in cells for seed, run in cell.runs.items()]
    names = dict.fromkeys(name for *_, found in runs for name in found)
    lines = []
    for name in names:
        counts = Counter(found.get(name, "none") for *_, found in runs)
        counts_of_unused = Counter(value for found in others if (value := found[name]) != "none")
        if len({*counts, *counts_of_unused}) > 1:
            by_seed: dict[str, set[str]] = {}
            for _, seed, found in runs:
                by_seed.setdefault(seed, set()).add(found.get(name, "none"))
            is_confounded = any(len(values) > 1 for values in by_seed.values())
            lines.append(Difference(name, dict(counts.most_common()), dict(counts_of_unused), is_confounded))
    return lines


def cost(record: RunRecord) -> dict[str, float]:
    """Wall seconds of training, CPU seconds where logged, items a second, peak memory in MiB; nan where unknown."""
    timing = record.timing
    mebibyte = 2**20
    return {
        "seconds": timing.get("seconds", float("nan")),
        "CPU seconds": timing.get("cpu_seconds", float("nan")),
        "items a second": timing.get("items_per_second", float("nan")),
        "memory, MiB": timing.get("peak_memory_bytes", float("nan")) / mebibyte,
        "device memory, MiB": timing.get("peak_device_memory_bytes", float("nan")) / mebibyte,
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
