"""Runs of two processes, through the command: what one process gives, exact after any interruption, and no hang."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.assemble import other_ranks
from dpo_lab.assemble.other_ranks import OtherRank, RankLostError
from dpo_lab.commands import train as command
from dpo_lab.errors import UserError
from dpo_lab.interruption import Stopped
from dpo_lab.module import PreferenceModule
from dpo_lab.run import Run, read_run
from dpo_lab.run.kept import newest_sound
from dpo_lab.run.read import read_info
from tests.torture.processes import config
from tests.torture.torture import compare

TWO = ("trainer.num_devices=2", "trainer.max_steps=7", "trainer.validate_every=4")
DROPOUT = ("model.dropout=0.2", "logger.every_n_steps=3")


@pytest.fixture(scope="module", autouse=True)
def no_picture() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[OtherRank]]:
    """The processes that were started; none may be left."""
    started: list[OtherRank] = []
    original = OtherRank.__init__

    def init(self: OtherRank, *given: Any) -> None:
        original(self, *given)
        started.append(self)

    monkeypatch.setattr(OtherRank, "__init__", init)
    yield started
    assert [other for other in started if other.code is None] == []


def train(cache: Path, runs: str, *overrides: str) -> Run:
    cfg = config(*overrides, f"cache_dir={cache}", f"runs_dir={runs}")
    assert command.train(cfg, list(overrides)) == 0
    (folder,) = Path(runs).glob("*/*/")
    return read_run(folder)


def acting_at(step: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have rank 0 call `act` in the middle of optimizer step `step`."""
    original = PreferenceModule.training_step

    def training_step(self: PreferenceModule, window: Any, index: int) -> None:
        if self.trainer.global_step == step - 1:
            act()
        original(self, window, index)

    monkeypatch.setattr(PreferenceModule, "training_step", training_step)


def test_two_ranks_come_to_what_one_comes_to(cache: Path, others: list[OtherRank]):
    """Of a loss that compares across the whole batch, with validation and the best kept: to rounding."""
    knobs = ("loss=bco", "trainer.micro_batch_size=3", "trainer.save=best")
    one = train(cache, "one", *knobs, *TWO, "trainer.num_devices=1")
    two = train(cache, "two", *knobs, *TWO)
    assert len(others) == 1 and one.path.name != two.path.name
    assert two.info["reference_cache"]["num_computed"] == 0
    assert [row.keys() for row in two.metrics] == [row.keys() for row in one.metrics]
    for found, expected in zip(two.metrics, one.metrics, strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=2e-5)
    (kept, other) = (newest_sound(run.path / "checkpoints", print) for run in (two, one))
    assert kept is not None and other is not None
    assert kept.content["num_ranks"] == 2 and kept.content["loader"] == other.content["loader"]
    assert len(list(two.path.glob("**/*.ckpt"))) == len(list(one.path.glob("**/*.ckpt")))


def test_the_number_of_processes_changes_only_where_that_is_allowed(cache: Path, others: list[OtherRank]):
    """Four steps of one process, then three of two, in a folder that says so: what one comes to, to rounding."""
    whole = train(cache, "whole", *TWO, "trainer.num_devices=1")
    begun = train(cache, "begun", *TWO, "trainer.num_devices=1", "trainer.max_steps=4")
    resume = (*TWO, f"resume.run={begun.path}")
    with pytest.raises(UserError, match=r"config: trainer\.num_devices: 1 then, 2 now"):
        train(cache, "refused", *resume)
    assert others == [] and not list(Path("refused").glob("*/*"))
    on = train(cache, "on", *resume, "resume.allow_change=[config]")
    assert len(others) == 1 and on.info["origin"]["step"] == 4 and on.path.name != whole.path.name
    assert "config: trainer.num_devices: 1 then, 2 now" in on.info["resumed"][0]["changed"]
    assert on.metrics[:4] == begun.metrics[:4]
    losses = [[row["train/loss"] for row in run.metrics if "train/loss" in row] for run in (on, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 7


def test_they_stop_together_die_together_and_go_on_to_the_same_bits(
    cache: Path, others: list[OtherRank], monkeypatch: pytest.MonkeyPatch
):
    """The second process is told to stop in step 3; gone on after it, it is killed in step 5."""
    whole = train(cache, "whole", *DROPOUT, *TWO, "trainer.checkpoint_every=1")
    with monkeypatch.context() as patch:
        acting_at(3, lambda: os.kill(others[-1].pid, signal.SIGTERM), patch)
        with pytest.raises(Stopped, match="143"):
            train(cache, "runs", *DROPOUT, *TWO)
    (folder,) = Path("runs").glob("*/*/")
    assert read_info(folder)["status"] == "interrupted" and newest_step(folder) in (3, 4)

    killed: list[float] = []
    with monkeypatch.context() as patch:
        acting_at(5, lambda: killed.append(kill(others[-1])), patch)
        with pytest.raises(RankLostError, match=r"(?s)rank 1 \(process \d+\) was killed by SIGKILL.*command goes on"):
            train(cache, "runs", *DROPOUT, *TWO, "trainer.checkpoint_every=1")
    assert time.monotonic() - killed[0] < 5
    assert read_info(folder)["status"] == "failed" and newest_step(folder) == 4

    run = train(cache, "runs", *DROPOUT, *TWO)
    assert compare(run.path, whole.path) == []
    assert [resumed["step"] for resumed in run.info["resumed"]][1:] == [4]


def kill(other: OtherRank) -> float:
    os.kill(other.pid, signal.SIGKILL)
    return time.monotonic()


def newest_step(folder: Path) -> int | None:
    kept = newest_sound(folder / "checkpoints", print)
    return None if kept is None else kept.step


def test_a_rank_that_fails_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Before it is ready, so that nothing would ever come from it."""
    monkeypatch.setattr(other_ranks, "MODULE", "dpo_lab.nothing")
    with pytest.raises(RankLostError, match=r"(?s)rank 1 .* exit code 1:\n.*No module named dpo_lab.nothing"):
        train(cache, "runs", *TWO)
