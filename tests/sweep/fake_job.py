"""Stands for the process of a job: reads what it is given as that does, and becomes what the seed says."""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

SLOW = "DPO_LAB_SLOW_FAKE"


def main() -> None:
    given = json.load(sys.stdin)
    folder, config = Path(given["folder"]), given["config"]
    seed = config["seed"]
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = folder / "begun.txt"
        times = len(begun.read_text().splitlines()) if begun.exists() else 0
        with begun.open("a") as file:
            file.write(f"{os.environ['OMP_NUM_THREADS']} {os.environ.get('CUDA_VISIBLE_DEVICES')} {given['sweep']}\n")
        found = {"fresh": config.get("fresh"), "resume": config.get("resume"), "processors": processors()}
        (folder / "found.json").write_text(json.dumps(found))
        run = folder / "run_of_the_job"
        run.mkdir(exist_ok=True)
        (folder / "run.txt").write_text(f"{run}\n")
        (run / "run.json").write_text(json.dumps({"status": "running", "num_steps": 4}))
        (run / "metrics.jsonl").write_text('{"step": 2, "train/loss": 0.5}\n')
        print(f"seed {seed} begins")
        if seed == 7:
            print("ValueError: boom", file=sys.stderr)
            sys.exit(1)
        if seed == 8 and times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == 9:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            time.sleep(60)
        if seed == 5 and times == 0:
            sys.exit(5)
        if seed == 21 and times == 0:
            sys.exit(1)
        if seed in (20, 21):
            validate(run, config["loss"]["beta"])
        (run / "run.json").write_text(json.dumps({"status": "finished", "num_steps": 4}))


def processors() -> list[int] | None:
    """Those that this process may run on, where that can be asked."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def validate(run: Path, beta: float) -> None:
    """Four validations of a run that is the better the nearer its beta is to 0.3, a third of a second each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(5):
            score = -abs(beta - 0.3) * step
            file.write(json.dumps({"step": step, "val/score": score, "samples/kl": 1 / beta}) + "\n")
            file.flush()
            time.sleep(0.3 if step and SLOW in os.environ else 0.0)


if __name__ == "__main__":
    main()
