"""What a sweep costs, all included, in dpo_lab and in TRL: 2 losses x 3 betas x 2 seeds, 50 optimizer steps each.

    python benchmarks/sweep_cost.py --trl-python PATH --data PAIRS.jsonl.gz --work DIR [--stop-after MINUTES]

One `dpo-lab train -m` from an empty cache, then a process of TRL for each of the 12 runs, then the sweep of dpo_lab
again. Figures are CPU seconds, user and system, of whole processes: start-up, data, cache, validation, training,
export. The record is written after every process, and the same command goes on where it stopped. docs/speed.md.
"""

import argparse
import itertools
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from step_cost import REPOSITORY, machine, shown
from sweep_cost_side import RECIPE, files_of

SIDE = Path(__file__).with_name("sweep_cost_side.py")
LOSSES = {"sigmoid": "sigmoid", "trl_1_16/ipo": "ipo"}
"""Our word and TRL's. TRL's IPO divides by lengths: `trl_1_16/ipo` is our `ipo` with that convention."""

BETAS, SEEDS = (0.05, 0.1, 0.5), (1, 2)
OTHER_BETAS, OTHER_SEEDS, OTHER_STEPS = (0.02, 0.2, 0.3), (3, 4), 5
"""Of the second sweep, which shows what the cache has kept. What is looked up does not depend on the steps."""

PAIRS_A_STEP = 4
RUNS = list(itertools.product(LOSSES, BETAS, SEEDS))
LOSS_GOAL = 1e-4
Record = dict[str, Any]


class Bench:
    """Runs processes one after the other, a record of each in `record`, which is on disk after every one."""

    def __init__(self, args: argparse.Namespace):
        self._args = args
        self._started = time.monotonic()
        args.work.mkdir(parents=True, exist_ok=True)
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if args.out.exists():
            self.record: Record = json.loads(args.out.read_text())
            return
        recipe = {
            "steps": args.steps,
            "pairs_a_step": PAIRS_A_STEP,
            "losses": LOSSES,
            "betas": BETAS,
            "seeds": SEEDS,
            "overrides": RECIPE,
            "threads": 1,
        }
        command = shlex.join(["python", "benchmarks/sweep_cost.py", *shown(sys.argv[1:])])
        self.record = {"command": command, "machine": machine(), "recipe": recipe, "data": args.data.name}
        self.record |= {"sweeps": [], "trl_live": [], "trl_precomputed": []}
        rows = {"train_rows": args.train_rows, "validation_rows": args.validation_rows}
        prepared, _ = self._side({"task": "prepare", "size": "9m", "data": str(args.data), "seeds": SEEDS, **rows})
        self.record |= prepared
        self._keep()

    @property
    def is_late(self) -> bool:
        """Whether --stop-after has passed: no further run of TRL begins."""
        limit = self._args.stop_after
        return limit is not None and time.monotonic() - self._started > 60 * limit

    def sweep(self, title: str, betas: Sequence[float], seeds: Sequence[int], steps: int, cache: Path) -> None:
        """One `dpo-lab train -m`, unless the record has it."""
        if any(taken["title"] == title for taken in self.record["sweeps"]):
            return
        with tempfile.TemporaryDirectory(dir=self._args.work) as runs:
            choices = (("loss", LOSSES), ("loss.beta", betas), ("seed", seeds))
            swept = [f"{key}={','.join(map(str, values))}" for key, values in choices]
            sizes = [f"trainer.max_steps={steps}", f"trainer.global_batch_size={PAIRS_A_STEP}"]
            folders = [f"runs_dir={runs}", f"cache_dir={cache}"]
            program = str(Path(sys.executable).with_name("dpo-lab"))
            command = [program, "train", "-m", *RECIPE.split(), *files_of(self._args.work), *sizes, *folders, *swept]
            _, seconds = self._measured(command)
            taken = {"title": title, "cpu_seconds": seconds, "runs": list(read_runs(Path(runs)))}
        self.record["sweeps"].append(taken)
        self._keep()

    def trl(self, side: str, loss: str, beta: float, seed: int) -> None:
        """One run of TRL in a process of its own, unless the record has it."""
        which = {"loss": loss, "beta": beta, "seed": seed}
        if any(which.items() <= taken.items() for taken in self.record[side]) or self.is_late:
            return
        job = {"task": "trl", **which, "loss": LOSSES[loss], "precompute": side == "trl_precomputed"}
        result, seconds = self._side(job)
        self.record[side].append({**which, "cpu_seconds": seconds, **result})
        self._keep()

    def _side(self, job: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        common = {"work": str(self._args.work), "steps": self._args.steps, "pairs_a_step": PAIRS_A_STEP}
        path = self._args.work / "job.json"
        path.write_text(json.dumps({**common, **job}))
        python = self._args.trl_python if job["task"] == "trl" else sys.executable
        printed, seconds = self._measured([str(python), str(SIDE), str(path)])
        return json.loads(printed), seconds

    def _measured(self, command: Sequence[str]) -> tuple[str, float]:
        """What a process prints, and its CPU seconds with those of the processes that it started."""
        log = self._args.work / "log"
        before = _children_seconds()
        with log.open("w") as errors:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=errors, env=self._environment, text=True, check=False
            )
        if done.returncode:
            raise SystemExit(f"{shlex.join(command)} failed:\n" + log.read_text()[-4000:])
        return done.stdout, _children_seconds() - before

    def _keep(self) -> None:
        self.record["summary"] = summarize(self.record)
        partial = self._args.out.with_suffix(".partial")
        partial.write_text(json.dumps(self.record, indent=1) + "\n")
        partial.replace(self._args.out)
        print(f"{time.strftime('%H:%M:%S')} {json.dumps(self.record['summary'])}", file=sys.stderr, flush=True)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_runs(runs: Path) -> Iterable[dict[str, Any]]:
    """What the run folders of a sweep say, in the order in which they ran."""
    from dpo_lab.run import read_run

    found = [read_run(path.parent) for path in runs.glob("*/*/run.json")]
    for run in sorted(found, key=lambda run: run.info["started"]):
        rows, loss = run.metrics, run.config["loss"]
        yield {
            "loss": next(word for word in LOSSES if word.rsplit("/")[-1] == loss["_target_"].rsplit(".")[-1]),
            "beta": loss["beta"],
            "seed": run.config["seed"],
            "losses": [row["train/loss"] for row in rows if "train/loss" in row],
            "validation_losses": [row["val/loss"] for row in rows if "val/loss" in row],
            "reference_cache": {name: n for name, n in run.info["reference_cache"].items() if name != "folder"},
        }


def summarize(record: Record) -> dict[str, Any]:
    """Totals. Where TRL has not done all runs, its total is the mean of those it has done, times their number."""
    full = [taken for taken in record["sweeps"] if not taken["title"].startswith("other")]
    if not full:
        return {}
    summary: dict[str, Any] = {"dpo_lab_cpu_seconds": mean(taken["cpu_seconds"] for taken in full)}
    for side in ("trl_live", "trl_precomputed"):
        if not record[side]:
            continue
        total = len(RUNS) * mean(taken["cpu_seconds"] for taken in record[side])
        summary[side] = {
            "runs": len(record[side]),
            "cpu_seconds_of_12": total,
            "times_dpo_lab": total / summary["dpo_lab_cpu_seconds"],
            "times_dpo_lab_each_sweep": [total / taken["cpu_seconds"] for taken in full],
            "largest_relative_loss_gap": max(loss_gap(taken, full[0]["runs"]) for taken in record[side]),
        }
    for taken in record["sweeps"]:
        counts = [run["reference_cache"] for run in taken["runs"]]
        names = ("num_hits", "num_computed", "num_forward_passes", "num_verified")
        summary[f"reference, {taken['title']}"] = {name: [count[name] for count in counts] for name in names}
    return summary


def table(summary: Mapping[str, Any]) -> Iterable[str]:
    """Lines of Markdown, then what the runs of each sweep asked of the reference."""
    yield "| | CPU s of 12 runs | times dpo_lab | against each sweep | runs measured | largest relative gap of a loss |"
    yield "|---|---|---|---|---|---|"
    yield f"| dpo_lab | {summary['dpo_lab_cpu_seconds']:.0f} | 1.0 | | 12 | |"
    for side, title in (("trl_live", "TRL, reference live"), ("trl_precomputed", "TRL, reference precomputed")):
        if side not in summary:
            continue
        found = summary[side]
        each = ", ".join(f"{ratio:.1f}" for ratio in found["times_dpo_lab_each_sweep"])
        total = f"{found['cpu_seconds_of_12']:.0f} | {found['times_dpo_lab']:.1f} | {each}"
        yield f"| {title} | {total} | {found['runs']} | {found['largest_relative_loss_gap']:.1e} |"
    for name, counts in summary.items():
        if name.startswith("reference, "):
            passes, verified = (" ".join(map(str, counts[key])) for key in ("num_forward_passes", "num_verified"))
            yield f"\n{name}: forward passes of each run {passes}; rows verified {verified}"


def loss_gap(theirs: Mapping[str, Any], ours: Iterable[Mapping[str, Any]]) -> float:
    """Largest difference of a step's or a validation's loss, relative where a loss is above 1 (IPO begins at 100)."""
    key = ("loss", "beta", "seed")
    same = next(run for run in ours if all(run[name] == theirs[name] for name in key))
    both = zip(
        [*theirs["losses"], *theirs["validation_losses"]], [*same["losses"], *same["validation_losses"]], strict=True
    )
    return max(abs(a - b) / max(1.0, abs(a)) for a, b in both)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", type=Path, required=True, help="interpreter of an environment with TRL 1.16")
    parser.add_argument("--data", type=Path, required=True, help="pairs, .jsonl.gz: the first rows are taken")
    parser.add_argument("--work", type=Path, required=True, help="folder for model and data, needed to go on later")
    parser.add_argument("--steps", type=int, default=50, help="optimizer steps of a run")
    parser.add_argument(
        "--train-rows", type=int, default=230, help="rows to train on; those that are too long drop out"
    )
    parser.add_argument("--validation-rows", type=int, default=22, help="rows after those, to validate on")
    parser.add_argument("--stop-after", type=float, metavar="MINUTES", help="begin no further run of TRL after that")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "speed" / "sweep_cost.json")
    args = parser.parse_args()
    if not args.data.exists():
        parser.error(f"no such file: {args.data}")
    args.work, args.data, args.out = args.work.resolve(), args.data.resolve(), args.out.resolve()
    args.trl_python = args.trl_python.absolute()  # resolved, it would leave its environment
    return args


def main() -> int:
    """Measure what the record lacks, print, and fail where the sides did not do the same work."""
    args = _arguments()
    bench = Bench(args)
    bench.sweep("first", BETAS, SEEDS, args.steps, args.work / "cache")
    other_steps = min(OTHER_STEPS, args.steps)
    bench.sweep("other betas and seeds", OTHER_BETAS, OTHER_SEEDS, other_steps, args.work / "cache")
    for number, run in enumerate(RUNS):
        bench.trl("trl_live", *run)
        if number % 4 == 1:  # so that a measurement that is cut short has some of these too
            bench.trl("trl_precomputed", *run)
    for run in RUNS:
        bench.trl("trl_precomputed", *run)
    with tempfile.TemporaryDirectory(dir=args.work) as empty:
        bench.sweep("last", BETAS, SEEDS, args.steps, Path(empty))
    print("\n".join(table(bench.record["summary"])))
    sides = [bench.record["summary"].get(side) for side in ("trl_live", "trl_precomputed")]
    gap = max((side["largest_relative_loss_gap"] for side in sides if side), default=0.0)
    if gap > LOSS_GOAL:
        print(f"the sides did not do the same work: their losses differ by {gap:.2g}", file=sys.stderr)
    return 0 if gap <= LOSS_GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
