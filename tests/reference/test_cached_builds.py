"""Several processes that want the same rows of a reference, and one that is killed while it computes them."""

import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path

from torch import Tensor

from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.reference import cached, rows
from tests.reference.cached_policy import groups_of, prepared, reference_of
from tests.small import small_policy


def slow(policy: CausalLM, seconds: float) -> CausalLM:
    """Takes `seconds` longer a forward pass; one row a pass."""
    rows.BATCH_TOKENS = 1
    cached.KEEP_SECONDS = 0.0
    original = CausalLM.log_prob

    def log_prob(self: CausalLM, inputs: dict[str, Tensor]):
        time.sleep(seconds)
        return original(self, inputs)

    CausalLM.log_prob = log_prob  # type: ignore[method-assign]
    return policy


def build_in_process(folder: Path, queue: "multiprocessing.Queue[tuple[int, int]] | None" = None) -> None:
    policy = slow(small_policy(), 0.05)
    use = prepared(policy, folder, groups_of(policy))
    if queue is not None:
        queue.put((use.num_hits, use.num_computed))


def test_of_several_processes_one_computes(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=build_in_process, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    uses = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(uses) == [(0, 12), (12, 0), (12, 0)]


def test_a_build_that_is_killed_keeps_what_was_whole(tmp_path: Path):
    """SIGKILL between files; the lock is free at once, what was written counts, and the rest is computed."""
    process = multiprocessing.get_context("fork").Process(target=partial(build_in_process, tmp_path))
    process.start()
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.rows"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    policy = small_policy()
    groups = groups_of(policy)
    use = prepared(policy, tmp_path, groups, verify_rows=12)
    assert 2 <= use.num_hits < 12
    assert use.num_hits + use.num_computed == 12
    assert use.num_verified == use.num_hits
    assert use.num_ignored_files == 0
    assert reference_of(policy, tmp_path).verify(groups, 12)[0] == 12
