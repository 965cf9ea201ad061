"""A few of the interruptions that `make torture` makes by the hundred."""

import random
from pathlib import Path

from tests.torture.torture import KINDS, TOO_LATE, Hits, kill_at_random, run_whole, terminate_at_random


def test_killed_and_told_to_stop_at_random(tmp_path: Path):
    """Five SIGKILLs and two SIGTERMs: the same command again comes to the same bits as the run left in peace."""
    draw, hits = random.Random(0), Hits()
    whole = run_whole(tmp_path, "whole", (*KINDS["dropout, micro-batches"], "trainer.checkpoint_every=1"), num=1)
    kill_at_random(tmp_path, whole, draw, 5, hits)
    terminate_at_random(tmp_path, whole, draw, 2, hits)
    assert hits.places.total() - hits.places[TOO_LATE] == 7
