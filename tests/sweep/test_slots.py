"""Shares of a machine."""

import os
import threading
import time
from pathlib import Path

import pytest

from dpo_lab import processors
from dpo_lab.errors import UserError
from dpo_lab.processors import can_pin
from dpo_lab.sweep.slots import Share, Slot, claim_slot, cpu_share, gpu_share, share_of, slots_folder, visible_devices

CPUS = [str(number) for number in range(7)]


def test_shares():
    """7 processors in shares of 3 are two, as are two ranks of one thread and a half; one processor is one share."""
    assert cpu_share(CPUS, 1, 3).num_at_once == 2
    assert (cpu_share(CPUS, 3, 1).num, cpu_share(CPUS, 2, 3).num_at_once) == (3, 1)
    assert cpu_share(["5"], 1, 4) == Share(("5",), 1, 4)
    assert gpu_share(["4", "6", "7"], 1, 6) == Share(("4", "6", "7"), 1, 2, is_gpu=True)
    assert gpu_share(["4", "6", "7"], 2, 6).num_at_once == 1
    with pytest.raises(UserError, match="num_devices: 2 is more than the 1 GPUs"):
        gpu_share(["0"], 2, 4)


def test_a_config_says_what_its_job_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    monkeypatch.setattr("dpo_lab.sweep.slots.visible_cpus", lambda: CPUS)
    assert share_of({"trainer": {"accelerator": "gpu", "num_devices": 2}}) == gpu_share(["GPU-a", "GPU-b"], 2, 7)
    assert share_of({"trainer": {"accelerator": "gpu", "num_threads": 1}}) == Share(
        ("GPU-a", "GPU-b"), 1, 1, is_gpu=True
    )
    assert share_of({"trainer": {"num_devices": 2, "num_threads": None}, "sweep": {"cpus_per_job": 3}}).num == 6
    assert share_of({"trainer": {"num_threads": 4}}).num == 4
    assert [share_of({"sweep": {"pin": pins}}).pins for pins in (True, False)] == [True, False]


def test_a_slot_says_what_its_process_may_use():
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert Slot(("1",), 2).environment() == {**threads, "DPO_LAB_PROCESSORS": ""}
    assert Slot(("1", "3"), 2, is_exclusive=True).environment() == {**threads, "DPO_LAB_PROCESSORS": "1,3"}
    assert Slot(("4", "6"), 2, is_gpu=True).environment()["CUDA_VISIBLE_DEVICES"] == "4,6"


@pytest.mark.parametrize(("value", "devices"), [("", []), ("0", ["0"]), ("GPU-1,GPU-2", ["GPU-1", "GPU-2"])])
def test_devices_are_those_that_the_environment_names(value: str, devices: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_devices() == devices


def test_who_finds_all_taken_waits(tmp_path: Path):
    share = cpu_share(["0", "1"], 1, 1)
    order: list[object] = []

    def wait() -> None:
        with claim_slot(share, tmp_path) as third:
            order.append(third.units)

    with claim_slot(share, tmp_path) as first:
        with claim_slot(share, tmp_path) as second:
            waiting = threading.Thread(target=wait)
            waiting.start()
            waiting.join(0.5)
            assert waiting.is_alive()
            assert (first.units, second.units) == (("0",), ("1",))
            order.append("let go")
        waiting.join(10)
    assert order == ["let go", ("1",)]


@pytest.mark.skipif(not can_pin(), reason="Linux alone pins processes; elsewhere jobs run unpinned")
def test_a_processor_is_one_jobs_own_whoever_else_counts_it_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Shares are claimed in two folders, as by two users: who comes second is not pinned, until the first is gone."""
    monkeypatch.setattr(processors, "MARK", f"test-{os.getpid()}")
    share = cpu_share(["0", "1"], 2, 1, pins=True)
    (one, two) = (tmp_path / "one", tmp_path / "two")
    one.mkdir()
    two.mkdir()
    with claim_slot(share, one) as first:
        with claim_slot(share._replace(num=1), two) as second:
            assert (first.processors, second.processors, second.units) == ([0, 1], [], ("0",))
        with claim_slot(share._replace(num=1, units=("2",)), two) as beside:
            assert beside.processors == [2]
    with claim_slot(share, two) as later:
        assert later.processors == [0, 1]
    with claim_slot(share._replace(pins=False), two) as free:
        assert free.processors == []
    with claim_slot(gpu_share(["0"], 1, 1), two) as gpu:
        assert gpu.processors == []


def test_a_large_job_is_not_starved_by_small_ones(tmp_path: Path):
    """It keeps what it has found; a small job that comes later waits behind it, although a processor is free."""
    small, order = cpu_share(["0", "1"], 1, 1), []

    def claim(share: Share) -> None:
        with claim_slot(share, tmp_path):
            order.append(share.num)

    with claim_slot(small, tmp_path):
        large = threading.Thread(target=claim, args=(cpu_share(["0", "1"], 2, 1),))
        large.start()
        time.sleep(0.4)
        later = threading.Thread(target=claim, args=(small,))
        later.start()
        time.sleep(0.4)
        assert order == []
    large.join(10)
    later.join(10)
    assert order == [2, 1]


def test_who_waits_in_vain_is_told_so(tmp_path: Path):
    def give_up() -> None:
        raise SystemExit

    share = cpu_share(["0"], 1, 1)
    waiting = claim_slot(share, tmp_path, check=give_up)
    with claim_slot(share, tmp_path), pytest.raises(SystemExit), waiting:
        pass


def test_a_job_of_a_cluster_has_its_machine_to_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("DPO_LAB_SLOTS")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = slots_folder()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert slots_folder() != own
