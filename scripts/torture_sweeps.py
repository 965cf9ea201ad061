"""`python scripts/torture_sweeps.py [--kills 20] [--worker-kills 2]`: kills jobs, sweeps and workers, and compares."""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.torture.sweeps import NUM_CELLS, SweepHits, kill_sweeps, kill_workers, run_whole_sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs (default: 20)")
    parser.add_argument("--worker-kills", type=int, default=2, help="SIGKILLs of joblib's workers, slower (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    args = parser.parse_args()
    draw, hits, begun = random.Random(args.seed), SweepHits(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DPO_LAB_SLOTS"] = str(Path(folder) / "slots")
        whole = run_whole_sweep(Path(folder))
        print(f"sweeps of {NUM_CELLS} jobs in {folder}; one left in peace took {whole.seconds:.0f} s", flush=True)
        kill_sweeps(Path(folder), whole, draw, args.kills, hits)
        kill_workers(Path(folder), whole, draw, args.worker_kills, hits)
    seconds = time.monotonic() - begun
    print(
        f"{args.kills} SIGKILL of jobs and sweeps, {args.worker_kills} of workers, {hits.num_sweeps} sweeps in "
        f"{seconds:.0f} s: all runs bit-identical to those left in peace, no cell lost, none run twice to its end, one "
        "W&B run a cell"
    )
    for place, count in sorted(hits.places.items()):
        print(f"{count:5d}  {place}")


if __name__ == "__main__":
    main()
