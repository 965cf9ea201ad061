"""Shares of a machine."""

import threading
from pathlib import Path

import pytest

from dpo_lab.errors import UserError
from dpo_lab.sweep.slots import Slot, claim_slot, cpu_slots, gpu_slots, visible_devices


def test_shares():
    """7 processors in shares of 3 are two; a machine of one processor still has one share."""
    assert cpu_slots(7, 3) == [Slot(0, 3), Slot(1, 3)]
    assert cpu_slots(1, 4) == [Slot(0, 4)]
    assert gpu_slots(["4", "6", "7"], 1, 6) == [Slot(0, 2, ("4",)), Slot(1, 2, ("6",)), Slot(2, 2, ("7",))]
    with pytest.raises(UserError, match="gpus_per_job: 2 is more than the 1 GPUs"):
        gpu_slots(["0"], 2, 4)


def test_a_slot_says_what_its_process_may_use():
    assert Slot(0, 2).environment() == {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert Slot(0, 2, ("4", "6")).environment()["CUDA_VISIBLE_DEVICES"] == "4,6"


@pytest.mark.parametrize(("value", "devices"), [("", []), ("0", ["0"]), ("GPU-1,GPU-2", ["GPU-1", "GPU-2"])])
def test_devices_are_those_that_the_environment_names(value: str, devices: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_devices() == devices


def test_who_finds_all_taken_waits(tmp_path: Path):
    slots, order = cpu_slots(2, 1), []

    def wait() -> None:
        with claim_slot(slots, tmp_path) as third:
            order.append(third.number)

    with claim_slot(slots, tmp_path) as first:
        with claim_slot(slots, tmp_path) as second:
            waiting = threading.Thread(target=wait)
            waiting.start()
            waiting.join(0.5)
            assert waiting.is_alive()
            assert (first.number, second.number) == (0, 1)
            order.append("let go")
        waiting.join(10)
    assert order == ["let go", 1]
