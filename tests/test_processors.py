"""Processors in the order in which jobs take them."""

from pathlib import Path

import pytest

from dpo_lab import processors
from dpo_lab.processors import by_core


def test_every_core_is_taken_before_its_second_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Cores (0, 1), (2, 3) and (4, 8); of the second the process may use only one, and of 9 nothing is known."""
    monkeypatch.setattr(processors, "TOPOLOGY", tmp_path)
    for number, siblings in {0: "0-1", 1: "0-1", 3: "2-3", 4: "4,8", 8: "4,8"}.items():
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert by_core([9, 8, 4, 3, 1, 0]) == [0, 3, 4, 9, 1, 8]
    assert by_core([1]) == [1]
