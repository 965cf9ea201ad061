"""`python scripts/torture.py [--kills 100] [--terms 20] [--seed 0]`: interrupts small runs at random and compares."""

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

from tests.torture.processes import other_file_system
from tests.torture.torture import KINDS, Hits, kill_at_random, run_whole, terminate_at_random


def share(total: int, number: int) -> int:
    """Of `total`, what falls to the kind with this number."""
    return total * (number + 1) // len(KINDS) - total * number // len(KINDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs (default: 100)")
    parser.add_argument("--terms", type=int, default=20, help="SIGTERMs (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    args = parser.parse_args()
    draw, hits, begun = random.Random(args.seed), Hits(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, other_file_system(Path(folder)) as temporary:
        print(f"runs in {folder}, temporary files in {temporary}")
        for number, (name, overrides) in enumerate(KINDS.items()):
            kills, terms = share(args.kills, number), share(args.terms, number)
            root = Path(folder) / str(number)
            whole = run_whole(root, "killed", (*overrides, "trainer.checkpoint_every=1"))
            kill_at_random(root, whole, draw, kills, hits)
            whole = run_whole(root, "told", overrides)
            terminate_at_random(root, whole, draw, terms, hits)
            print(f"{name}: {kills} SIGKILL and {terms} SIGTERM, all runs bit-identical to the run left in peace")
        leftovers = list(temporary.iterdir()) if str(temporary).startswith("/dev/shm") else []
        print(f"{hits.num_runs} runs in {time.monotonic() - begun:.0f} s; temporary files left: {len(leftovers)}")
    for place, count in hits.places.most_common():
        print(f"{count:5d}  {place}")
    if hits.seconds:
        print(f"from SIGTERM to the end: at most {max(hits.seconds):.2f} s")


if __name__ == "__main__":
    main()
