"""A few of the interruptions that `make torture` makes by the hundred."""

import random
from pathlib import Path

import pytest

from tests.torture.full_disk import MountError, fill_at_random, small_file_system
from tests.torture.torture import KINDS, TOO_LATE, Hits, kill_at_random, run_whole, terminate_at_random

KNOBS = (*KINDS["dropout, micro-batches"], "trainer.checkpoint_every=1")


def test_a_disk_that_runs_full(tmp_path: Path):
    """On a real file system of 8 MiB; left out where none can be mounted, which takes root."""
    try:
        with small_file_system(tmp_path / "tried"):
            pass
    except MountError as error:  # neither root nor a user namespace: no small disk can be had, and none is made up
        pytest.skip(str(error))
    hits = Hits()
    fill_at_random(tmp_path, run_whole(tmp_path, "whole", KNOBS, num=1), random.Random(2), 2, hits)
    assert hits.places["full disk, with a checkpoint"] >= 1


def test_killed_and_told_to_stop_at_random(tmp_path: Path):
    """Three SIGKILLs and a SIGTERM: the same command again comes to the same bits as the run left in peace."""
    draw, hits = random.Random(0), Hits()
    whole = run_whole(tmp_path, "whole", KNOBS, num=1)
    kill_at_random(tmp_path, whole, draw, 3, hits)
    terminate_at_random(tmp_path, whole, draw, 1, hits)
    assert hits.places.total() - hits.places[TOO_LATE] == 4
