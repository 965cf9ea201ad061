"""What an optimizer step costs, in dpo_lab and in TRL, on the same weights, pairs, order and arithmetic.

    python benchmarks/step_cost.py --trl-python PATH --data PAIRS.jsonl.gz [--size 9m] [--repeats 3] [--out FILE.json]

PATH is the interpreter of an environment with TRL 1.16; benchmarks/trl_parity.py makes one. Every measurement is a
process of its own, in the order A B C A B C, so that whatever else the machine does meets all sides alike. Figures are
CPU seconds, user and system, of the steps after the warm-up. What they mean: docs/speed.md.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
SIDE = Path(__file__).with_name("step_cost_side.py")
PAIRS_A_STEP = 8
LOSS_GOAL = 1e-4


class Side(NamedTuple):
    """One way of doing the same steps. `job` is what its process is told beside what all are told."""

    title: str
    job: Mapping[str, Any]

    @property
    def is_trl(self) -> bool:
        return self.job["task"] == "trl"

    @property
    def is_cached(self) -> bool:
        return "reference.cache=require" in self.job.get("overrides", ())


def _dpo_lab(title: str, attention: str, cache: str) -> Side:
    overrides = [f"model.attention={attention}", f"reference.cache={cache}"]
    return Side(f"dpo_lab, {title}", {"task": "dpo_lab", "overrides": overrides})


SIDES = {
    "shared_cached": _dpo_lab("shared prompt, reference cached", "shared", "require"),
    "shared_live": _dpo_lab("shared prompt, reference live", "shared", "off"),
    "packed_cached": _dpo_lab("packed, reference cached", "packed", "require"),
    "padded_cached": _dpo_lab("padded, whole head, reference cached", "padded", "require"),
    "padded_live": _dpo_lab("padded, whole head, reference live", "padded", "off"),
    "trl_live": Side("TRL, reference live", {"task": "trl", "precompute": False}),
    "trl_precomputed": Side("TRL, reference precomputed", {"task": "trl", "precompute": True}),
}
"""`reference.cache=require` is what measures a warm cache: a run that would have to compute a row stops."""


class Bench:
    """Runs processes one after the other; `folder` holds what they share."""

    def __init__(self, args: argparse.Namespace, folder: Path):
        self._args = args
        self._folder = folder
        (folder / "work").mkdir()
        self._common = {
            "data": str(args.data.resolve()),
            "size": args.size,
            "steps": args.steps,
            "threads": args.threads,
            "pairs_a_step": PAIRS_A_STEP,
            "model": str(folder / "model"),
            "pairs": str(folder / "pairs.json"),
            "cache": str(folder / "cache"),
            "work": str(folder / "work"),
        }

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What the process says of one job; it fails where the process does."""
        path = self._folder / "job.json"
        path.write_text(json.dumps({**self._common, **job}))
        python = self._args.trl_python if job["task"] == "trl" else sys.executable
        threads = str(self._args.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with (self._folder / "log").open("w") as log:
            done = subprocess.run(
                [python, SIDE, path], stdout=subprocess.PIPE, stderr=log, env=environment, check=False
            )
        if done.returncode:
            raise SystemExit(f"{job} failed:\n" + (self._folder / "log").read_text()[-4000:])
        return json.loads(done.stdout)

    def build_cache(self, side: Side) -> dict[str, Any]:
        """The same run while the cache still lacks every row: what the first run of a sweep pays."""
        overrides = [item.replace("cache=require", "cache=auto") for item in side.job["overrides"]]
        return self.run({**side.job, "overrides": overrides})


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All processes; the record is kept after each round."""
    bench = Bench(args, folder)
    record: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/step_cost.py", *shown(sys.argv[1:])]),
        "machine": machine(),
        "recipe": {
            "size": args.size,
            "pairs_a_step": PAIRS_A_STEP,
            "max_length": 512,
            "dtype": "float32",
            "loss": "sigmoid, beta 0.1",
            "optimizer": "fused AdamW, lr 1e-5, clipped at norm 1",
            "threads": args.threads,
            "steps": args.steps,
            "warm_up": args.warm_up,
        },
        "data": args.data.name,
        **bench.run({"task": "prepare"}),
    }
    sides = {name: SIDES[name] for name in args.sides}
    record["cold"] = {name: bench.build_cache(side) for name, side in sides.items() if side.is_cached}
    record["rounds"] = []
    for number in range(args.repeats):
        taken = {}
        for name, side in sides.items():
            taken[name] = bench.run(side.job)
            print(f"round {number + 1}: {name}: {_step(taken[name], args.warm_up):.2f} CPU s a step", file=sys.stderr)
        record["rounds"].append(taken)
        record["summary"] = summarize(record)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    return record


def shown(arguments: Sequence[str]) -> list[str]:
    """Without where things lie on this machine."""
    return [Path(argument).name if "/" in argument else argument for argument in arguments]


def machine() -> dict[str, Any]:
    """What the processes run on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"processor": name, "cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}


def _step(taken: Mapping[str, Any], warm_up: int) -> float:
    """Mean CPU seconds of a step after the warm-up. The first interval is that of the second step."""
    return mean(taken["step_cpu_seconds"][max(0, warm_up - 1) :])


def summarize(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of each side the medians over rounds; ratios are taken inside a round, and then their median."""
    rounds, warm_up = record["rounds"], record["recipe"]["warm_up"]
    summary: dict[str, dict[str, float]] = {}
    for name in rounds[0]:
        found = {
            "cpu_seconds_a_step": median(_step(taken[name], warm_up) for taken in rounds),
            "peak_bytes": median(taken[name]["peak_bytes"] for taken in rounds),
            "start_up_cpu_seconds": median(taken[name]["start_up_cpu_seconds"] for taken in rounds),
        }
        for base in ("trl_live", "trl_precomputed", "padded_live"):
            if base in rounds[0]:
                ratios = [_step(taken[base], warm_up) / _step(taken[name], warm_up) for taken in rounds]
                found[f"cheaper_than_{base}"] = median(ratios)
                found[f"cheaper_than_{base}_least"] = min(ratios)
                found[f"memory_of_{base}_over_this"] = median(
                    taken[base]["peak_bytes"] / taken[name]["peak_bytes"] for taken in rounds
                )
        if "trl_live" in rounds[0]:
            found["largest_loss_gap"] = max(loss_gap(taken[name], taken["trl_live"]) for taken in rounds)
        if name in record["cold"]:
            cold = record["cold"][name]["start_up_cpu_seconds"] - found["start_up_cpu_seconds"]
            found["cache_build_cpu_seconds_a_pair"] = cold / (record["recipe"]["steps"] * PAIRS_A_STEP)
        summary[name] = found
    return summary


def loss_gap(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Largest difference between the losses of a step."""
    return max(abs(mine - other) for mine, other in zip(ours["losses"], theirs["losses"], strict=True))


def table(record: Mapping[str, Any]) -> Iterable[str]:
    """Lines of Markdown."""
    yield "| | CPU s a step | TRL live / this | TRL precomputed / this | peak memory, GB | largest gap of the loss |"
    yield "|---|---|---|---|---|---|"
    for name, found in record["summary"].items():
        cells = [
            f"{found['cpu_seconds_a_step']:.2f}",
            *(f"{found[f'cheaper_than_{base}']:.1f}" for base in ("trl_live", "trl_precomputed")),
            f"{found['peak_bytes'] / 1e9:.2f}",
            f"{found['largest_loss_gap']:.1e}",
        ]
        yield f"| {SIDES[name].title} | " + " | ".join(cells) + " |"


def first_losses(record: Mapping[str, Any], num_steps: int = 4) -> Iterable[str]:
    """The same work is done: the losses of the first steps, side by side."""
    for name, taken in record["rounds"][0].items():
        yield f"{name:18}" + "".join(f"{loss:12.7f}" for loss in taken["losses"][:num_steps])


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", type=Path, required=True, help="interpreter of an environment with TRL 1.16")
    parser.add_argument("--data", type=Path, required=True, help="pairs, in any form that data=files reads")
    parser.add_argument("--size", choices=("9m", "17m"), default="9m", help="weights of the model, in millions")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all sides")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of a process, warm-up included")
    parser.add_argument("--warm-up", type=int, default=2, help="first steps, which are not counted")
    parser.add_argument("--threads", type=int, default=1, help="of arithmetic, the same for all sides")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--out", type=Path, help="where the record goes; docs/speed/step_cost_SIZE.json unless given")
    args = parser.parse_args(argv)
    if not args.data.exists():
        parser.error(f"no such file: {args.data}")
    if not 0 < args.warm_up < args.steps or args.repeats < 1:
        parser.error("needs one step or more to warm up, one or more to count, and one round or more")
    if not {"trl_live", "trl_precomputed"} <= set(args.sides):
        parser.error("--sides needs trl_live and trl_precomputed: everything is measured against them")
    args.out = args.out or REPOSITORY / "docs" / "speed" / f"step_cost_{args.size}.json"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    return args


def main() -> int:
    """Measure, print, and fail where the sides did not do the same work."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as name:
        record = measure(args, Path(name))
    print("\n".join((*first_losses(record), "", *table(record), "", f"written: {args.out}")))
    gap = max(found["largest_loss_gap"] for found in record["summary"].values())
    if gap > LOSS_GOAL:
        print(f"the sides did not do the same work: their losses differ by {gap:.2g}", file=sys.stderr)
    return 0 if gap <= LOSS_GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
