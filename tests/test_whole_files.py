from pathlib import Path

import pytest

from dpo_lab.whole_files import write_whole


def test_a_file_is_replaced_and_nothing_else_is_left():
    write_whole(Path("a"), b"first")
    write_whole(Path("a"), b"second")
    assert Path("a").read_bytes() == b"second"
    assert [path.name for path in Path().iterdir()] == ["a"]


def test_what_cannot_be_put_in_place_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch):
    write_whole(Path("a"), b"first")

    def fail(self: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_whole(Path("a"), b"second")
    assert Path("a").read_bytes() == b"first"
    assert [path.name for path in Path().iterdir()] == ["a"]
