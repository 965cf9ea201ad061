"""Kept checkpoints: a torn one is named and passed over, the newest and the best stay."""

from pathlib import Path

import pytest

from dpo_lab.errors import UserError
from dpo_lab.run.checkpoint import checkpoint_path
from dpo_lab.run.files import WriteError
from dpo_lab.run.kept import best_step, keep, manifest_path, newest_sound, prune, read_kept, set_value


def content(step: int) -> dict:
    return {"step": step, "text": "x" * 2000}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_kept_is_found(workplace):
    for step in (5, 100, 20):
        keep(workplace, step, content(step))
    found = newest_sound(workplace, pytest.fail)
    assert found is not None
    assert (found.step, found.path, found.content) == (100, checkpoint_path(workplace, 100), content(100))
    assert read_kept(workplace, 5).content == content(5)
    assert newest_sound(Path("/proc/self/task"), pytest.fail) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_manifest(path: Path) -> None:
    manifest_path(path).unlink()


def spoil_manifest(path: Path) -> None:
    manifest_path(path).write_text('{"step": 2, "num_by')


def empty_manifest(path: Path) -> None:
    manifest_path(path).write_text("[]")


@pytest.mark.parametrize(
    ("tear", "reason"),
    [
        (truncate, "it has 700 bytes, and its manifest says"),
        (flip, "its checksum is not the one in its manifest"),
        (lose_manifest, "it has no manifest"),
        (spoil_manifest, "its manifest is damaged"),
        (empty_manifest, "its manifest is damaged"),
    ],
)
def test_a_torn_one_is_named_and_the_one_before_is_used(workplace, tear, reason: str):
    for step in (1, 2):
        keep(workplace, step, content(step))
    tear(checkpoint_path(workplace, 2))
    said: list[str] = []
    found = newest_sound(workplace, said.append)
    assert found is not None and found.step == 1
    (line,) = said
    assert line.startswith("checkpoint step-00000002.ckpt is not used: ") and reason in line
    with pytest.raises(UserError, match=reason):
        read_kept(workplace, 2)
    # The resumed run comes to the same step again, and then it is whole.
    keep(workplace, 2, content(2))
    assert read_kept(workplace, 2).content == content(2)


def test_a_bit_anywhere_is_noticed(workplace):
    """Every 97th byte of the file, one after the other."""
    path = keep(workplace, 1, content(1))
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        assert newest_sound(workplace, lambda line: None) is None
    path.write_bytes(whole)
    assert newest_sound(workplace, pytest.fail) is not None


def test_the_newest_stay_and_what_a_killed_process_left_goes(workplace):
    for step in (5, 20, 100):
        keep(workplace, step, content(step))
    keep(workplace, 300, content(300))  # of before a resume from step 100
    (workplace / ".step-00000200.ckpt.17.partial").write_text("killed in the middle")
    (workplace / "mine.ckpt").write_text("not ours to delete")
    lose_manifest(keep(workplace, 90, content(90)))
    prune(workplace, 100, keep_last=2)
    kept = [f"step-{step:08d}.{kind}" for step in (20, 100) for kind in ("ckpt", "json")]
    assert names(workplace) == ["mine.ckpt", *kept]
    with pytest.raises(ValueError, match="at least one"):
        prune(workplace, 100, keep_last=0)


@pytest.mark.parametrize(("mode", "best"), [("min", (20, 1.0)), ("max", (10, 3.0))])
def test_the_best_stays_beside_the_newest(workplace, mode, best):
    """Values 3, 1, 1, 2: the smallest is at step 20 first, the largest at step 10. Not a number is no value."""
    for step, value in ((10, 3.0), (20, 1.0), (30, 1.0), (40, None), (50, float("nan"))):
        keep(workplace, step, content(step), value=value)
    set_value(workplace, 40, 2.0)
    assert best_step(workplace, 50, mode) == best
    prune(workplace, 50, 1, mode)
    assert {name.partition(".")[0] for name in names(workplace)} == {f"step-{best[0]:08d}", "step-00000050"}
    assert best_step(workplace, 5, mode) is None


def test_a_refused_write_leaves_the_ones_before(workplace, monkeypatch):
    keep(workplace, 1, content(1))
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(WriteError, match=r"cannot write .*step-00000002\.ckpt: No space left on device"):
        keep(workplace, 2, content(2))
    assert names(workplace) == ["step-00000001.ckpt", "step-00000001.json"]
    assert newest_sound(workplace, pytest.fail) is not None
