"""`python scripts/torture.py [--kills 100] [--terms 20] [--full-disks 8]`: interrupts small runs and compares.

Kills come at random moments, half of them aimed at a save; temporary files lie on another file system than the runs,
where there is one (/dev/shm).
"""

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

from tests.torture.full_disk import MountError, fill_at_random
from tests.torture.processes import other_file_system
from tests.torture.torture import (
    KINDS,
    SAVING,
    TWO_PROCESSES,
    Hits,
    kill_at_random,
    run_whole,
    terminate_at_random,
)


def share(total: int, number: int, num: int) -> int:
    """Of `total`, what falls to the kind with this number, of `num`."""
    return total * (number + 1) // num - total * number // num


def say_of_full_disks(root: Path, draw: random.Random, num: int, overrides: tuple[str, ...], hits: Hits) -> None:
    """Let disks run full where that can be tried; else say so."""
    try:
        fill_at_random(root, run_whole(root, "full", (*overrides, "trainer.checkpoint_every=1")), draw, num, hits)
    except MountError as error:
        print(f"full disks: not tried ({error})")
    else:
        print(f"full disks: {num}, the file named each time, all runs bit-identical once there was room")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs (default: 100)")
    parser.add_argument("--terms", type=int, default=20, help="SIGTERMs (default: 20)")
    parser.add_argument("--full-disks", type=int, default=8, help="file systems that run full; takes root (default: 8)")
    parser.add_argument("--kind", choices=[*KINDS, *TWO_PROCESSES], help="one kind of run alone (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    args = parser.parse_args()
    draw, hits, begun = random.Random(args.seed), Hits(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, other_file_system(Path(folder)) as temporary:
        print(f"runs in {folder}, temporary files in {temporary}")
        kinds = {name: knobs for name, knobs in (KINDS | TWO_PROCESSES).items() if args.kind in (None, name)}
        for number, (name, overrides) in enumerate(kinds.items()):
            kills, terms = share(args.kills, number, len(kinds)), share(args.terms, number, len(kinds))
            root = Path(folder) / str(number)
            whole = run_whole(root, "killed", (*overrides, "trainer.checkpoint_every=1"))
            kill_at_random(root, whole, draw, kills, hits)
            whole = run_whole(root, "told", overrides)
            terminate_at_random(root, whole, draw, terms, hits)
            print(f"{name}: {kills} SIGKILL and {terms} SIGTERM, all runs bit-identical to the run left in peace")
            if number == 0:
                say_of_full_disks(root, draw, args.full_disks, overrides, hits)
        leftovers = list(temporary.iterdir()) if str(temporary).startswith("/dev/shm") else []
        print(f"{hits.num_runs} runs in {time.monotonic() - begun:.0f} s; temporary files left: {len(leftovers)}")
    num_saving = sum(hits.places[place] for place in SAVING)
    print(f"{args.kills} of {args.kills} kills resumed to the bit, {num_saving} of them in the middle of a save")
    for place, count in hits.places.most_common():
        print(f"{count:5d}  {place}")
    if hits.seconds:
        print(f"from SIGTERM to the end: at most {max(hits.seconds):.2f} s")


if __name__ == "__main__":
    main()
