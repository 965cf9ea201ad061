"""What a step costs on a CUDA device: pairs and tokens a second, model FLOPs utilisation, peak memory of the device.

    python benchmarks/gpu_cost.py --size 0.5b [--trl-python PATH] [--rounds 3] [--epochs 3] [--out FILE.json]
    python benchmarks/gpu_cost.py --size tiny --device cpu          # does the script itself work?

A Qwen2 with random weights in the shape of Qwen2.5, pairs of random tokens, bfloat16 autocast over float32 weights.
Every measurement is a process of its own, sides in turns. dpo_lab runs as `dpo-lab train` does, its reference cached;
TRL, where the interpreter of an environment with TRL 1.16 is given, with a live and with a precomputed reference.
Without a CUDA device, and without --device cpu, it says so and ends with 2. What the figures mean: docs/speed.md.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from gpu_cost_side import SHAPES
from step_cost import machine, shown

SIDE = Path(__file__).with_name("gpu_cost_side.py")
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "RTX 4090": 165}
"""Dense bfloat16 of the makers' data sheets (of H100 and H200 the SXM boards)."""

LEARNING_RATE = 1e-6
"""So small that in a few dozen steps the rounding of one side does not lead it elsewhere than another."""

LOSS_GOAL = {"cuda": 2e-2, "cpu": 1e-4}
"""In bfloat16 sides round differently."""


def sides_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each side's process is told beside what all are told."""
    precision = "trainer.precision=" + ("bf16-mixed" if args.device == "cuda" else "32-true")
    sides: dict[str, dict[str, Any]] = {
        f"dpo_lab, {attention}": {"task": "dpo_lab", "overrides": [f"model.attention={attention}", precision]}
        for attention in ("shared", "packed", "padded")
    }
    if args.size != "tiny":  # the whole head of 8 pairs takes more than 120 GB
        sides["dpo_lab, padded"]["overrides"].append("trainer.micro_batch_size=1")
    if args.device == "cuda":  # on a CPU it would compile for minutes
        compiled = ["model.attention=shared", "model.compile=true", precision]
        sides["dpo_lab, shared, compiled"] = {"task": "dpo_lab", "overrides": compiled}
    if args.trl_python is not None:
        sides["TRL, live"] = {"task": "trl", "precompute": False}
        sides["TRL, precomputed"] = {"task": "trl", "precompute": True}
    return {
        name: side for name, side in sides.items() if args.sides is None or name in ("dpo_lab, shared", *args.sides)
    }


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rounds over all sides."""
    (folder / "work").mkdir()
    common = {
        **{name: getattr(args, name) for name in ("size", "steps", "pairs_a_step", "device")},
        "threads": args.threads,
        "max_steps": args.steps * args.epochs,
        "max_length": 2048,
        "lr": LEARNING_RATE,
        **{name: str(folder / name) for name in ("model", "cache", "work")},
        "data": str(folder / "pairs.jsonl"),
        "pairs": str(folder / "pairs.json"),
    }
    record: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/gpu_cost.py", *shown(sys.argv[1:])]),
        "machine": machine(),
        "recipe": {
            name: common[name] for name in ("size", "steps", "max_steps", "pairs_a_step", "device", "max_length", "lr")
        },
        "warm_up": args.warm_up,
        **_run({**common, "task": "prepare"}, args, folder),
        "rounds": [],
    }
    for number in range(args.rounds):
        record["rounds"].append(taken := {})
        for name, found in _round({name: {**common, **side} for name, side in sides_of(args).items()}, args, folder):
            taken[name] = found
            print(f"round {number + 1}: {name}: {_seconds(taken[name], args.warm_up):.3f} s a step", file=sys.stderr)
            _keep(record, args)
        record["summary"] = summarize(record, args.peak_tflops)
        _keep(record, args)
    return record


def _keep(record: Mapping[str, Any], args: argparse.Namespace) -> None:
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


def _round(
    jobs: Mapping[str, Mapping[str, Any]], args: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One side after the other; with --side-by-side they import and load at once, and train one after the other."""
    turns = {name: Path(tempfile.mkdtemp(dir=folder)) / "turn" for name in jobs}
    started: dict[str, subprocess.Popen[str]] = {}
    try:
        for batch in [list(jobs)] if args.side_by_side else [[name] for name in jobs]:
            for name in batch:
                started[name] = _start({**jobs[name], "turn": str(turns[name])}, args, turns[name].parent)
            for name in batch:
                while not turns[name].with_suffix(".ready").exists() and started[name].poll() is None:
                    time.sleep(0.05)
            for name in batch:
                turns[name].with_suffix(".go").touch()
                try:
                    yield name, _result(started[name], jobs[name])
                except SystemExit as failed:  # memory, most likely: the others say something all the same
                    print(f"{name}: {failed}", file=sys.stderr)
    finally:
        for process in started.values():
            process.kill()


def _run(job: Mapping[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    return _result(_start(job, args, folder), job)


def _start(job: Mapping[str, Any], args: argparse.Namespace, folder: Path) -> "subprocess.Popen[str]":
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    python = args.trl_python if job["task"] == "trl" else sys.executable
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    if args.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with (folder / "out.json").open("w") as out, (folder / "err.txt").open("w") as err:
        return subprocess.Popen([python, SIDE, path], stdout=out, stderr=err, text=True, env=environment)


def _result(process: "subprocess.Popen[str]", job: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(process.args[-1]).parent  # type: ignore[index]
    if process.wait():
        raise SystemExit(f"{job} failed:\n{(folder / 'err.txt').read_text()[-4000:]}")
    return json.loads((folder / "out.json").read_text())


def _seconds(taken: Mapping[str, Any], warm_up: int) -> float:
    """Of the median step after the warm-up. The first interval is that of the second step."""
    return median(taken["step_seconds"][max(0, warm_up - 1) :])


def summarize(record: Mapping[str, Any], peak_tflops: float | None) -> dict[str, dict[str, Any]]:
    """Of each side the medians over rounds. Tokens are those of both rows of a pair, whatever a side computes.

    `mfu` counts the least work that a step needs, the same for all sides, against the device's peak; None where that is
    not known.
    """
    rounds, num_pairs = record["rounds"], record["recipe"]["pairs_a_step"]
    device = rounds[0]["dpo_lab, shared"]["device"]
    peak = peak_tflops or next((tflops for name, tflops in PEAK_TFLOPS.items() if name in device), None)
    summary = {}
    for name in (name for name in rounds[0] if all(name in taken for taken in rounds)):
        pairs = median(num_pairs / _seconds(taken[name], record["warm_up"]) for taken in rounds)
        summary[name] = {
            "pairs_a_second": pairs,
            "tokens_a_second": pairs * record["tokens_a_pair"]["real"],
            "mfu": None if peak is None else pairs * record["flops_a_pair"] / (peak * 1e12),
            "peak_bytes": median(taken[name]["peak_bytes"] for taken in rounds),
            "largest_loss_gap": max(
                abs(a - b)
                for taken in rounds
                for a, b in zip(taken[name]["losses"], taken["dpo_lab, shared"]["losses"], strict=True)
            ),
        }
    return summary


def table(record: Mapping[str, Any]) -> Iterable[str]:
    """Lines of Markdown."""
    yield f"{record['rounds'][0]['dpo_lab, shared']['device']}, {record['recipe']['size']}:\n"
    yield "| | pairs/s | tokens/s | MFU | peak memory, GB | largest gap of the loss |"
    yield "|---|---|---|---|---|---|"
    for name, found in record["summary"].items():
        mfu = "" if found["mfu"] is None else f"{found['mfu']:.1%}"
        rates = f"{found['pairs_a_second']:.1f} | {found['tokens_a_second']:,.0f} | {mfu}"
        yield f"| {name} | {rates} | {found['peak_bytes'] / 1e9:.2f} | {found['largest_loss_gap']:.1e} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="0.5b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is a trial of the script")
    parser.add_argument("--trl-python", type=Path, help="interpreter of an environment with TRL 1.16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of an epoch, each on other pairs")
    parser.add_argument("--epochs", type=int, default=3, help="over the same pairs, in the same order")
    parser.add_argument(
        "--warm-up", type=int, help="first steps, which are not counted; default: all but the last epoch"
    )
    parser.add_argument("--pairs-a-step", type=int, default=8)
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="import and load all sides of a round at once; they still train in turns. Saves minutes, takes memory",
    )
    parser.add_argument("--sides", nargs="+", metavar="SIDE", help="only these, and 'dpo_lab, shared'")
    parser.add_argument("--threads", type=int, default=1, help="of the host's arithmetic")
    parser.add_argument("--peak-tflops", type=float, help="of the device in bfloat16, where it is not a known one")
    parser.add_argument("--out", type=Path, help="write the record there, after each side")
    args = parser.parse_args()
    if args.warm_up is None:
        args.warm_up = max(1, args.steps * (args.epochs - 1))
    if not 0 < args.warm_up < args.steps * args.epochs or args.rounds < 1:
        parser.error("needs one step or more to warm up, one or more to count, and one round or more")
    return args


def main() -> int:
    """Measure, print, and fail where the sides did not do the same work."""
    args = _arguments()
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print("gpu_cost.py: no CUDA device here; --size tiny --device cpu tries the script", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as name:
        record = measure(args, Path(name))
    print("\n".join(table(record)))
    missing = sides_of(args).keys() - record["summary"].keys()
    gap = max(found["largest_loss_gap"] for found in record["summary"].values())
    if gap > LOSS_GOAL[args.device]:
        print(f"the sides did not do the same work: their losses differ by {gap:.2g}", file=sys.stderr)
    return 1 if missing or gap > LOSS_GOAL[args.device] else 0


if __name__ == "__main__":
    sys.exit(main())
