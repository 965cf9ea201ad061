"""Checkpoints: plain, atomic, pruned; and through Lightning."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from dpo_lab.errors import UserError
from dpo_lab.run.checkpoint import (
    AtomicCheckpointIO,
    checkpoint_path,
    load,
    save_atomic,
)
from dpo_lab.run.files import WriteError

Point = namedtuple("Point", "x y")


def test_what_was_saved_is_loaded(workplace):
    obj = {"a": torch.arange(3), "b": [1, 2.5, None, "x", True], "c": OrderedDict(d=(1, 2)), 3: {"e": b"f"}}
    save_atomic(obj, workplace / "x.ckpt")
    back = load(workplace / "x.ckpt")
    assert back["a"].tolist() == [0, 1, 2]
    assert {**back, "a": None} == {**obj, "a": None}


@pytest.mark.parametrize("odd", [np.float64(1.0), Point(1, 2), torch.nn.Linear(1, 1), object(), torch.Generator(), len])
def test_what_is_not_plain_is_named_and_nothing_is_written(workplace, odd: object):
    save_atomic({"old": 1}, workplace / "x.ckpt")
    with pytest.raises(TypeError, match=r"checkpoint\['loop'\]\[0\]\['odd'\] is a"):
        save_atomic({"loop": [{"odd": odd}]}, workplace / "x.ckpt")
    assert load(workplace / "x.ckpt") == {"old": 1}


def test_a_failed_write_leaves_the_old_file(workplace, monkeypatch):
    save_atomic({"old": 1}, workplace / "x.ckpt")

    def half(obj, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(WriteError, match=r"cannot write .*x\.ckpt: disk full"):
        save_atomic({"new": 2}, workplace / "x.ckpt")
    assert load(workplace / "x.ckpt") == {"old": 1}
    assert [path.name for path in workplace.iterdir()] == ["x.ckpt"]


def test_bad_files_are_answered_in_words(workplace):
    with pytest.raises(UserError, match="no checkpoint at"):
        load(workplace / "missing.ckpt")
    save_atomic({"a": torch.zeros(1000)}, workplace / "cut.ckpt")
    (workplace / "cut.ckpt").write_bytes((workplace / "cut.ckpt").read_bytes()[:500])
    (workplace / "text.ckpt").write_text("hello")
    torch.save({"a": torch.nn.Linear(1, 1)}, workplace / "code.ckpt")
    for name in ("cut.ckpt", "text.ckpt", "code.ckpt"):
        with pytest.raises(UserError, match="damaged or not a checkpoint"):
            load(workplace / name)


class Tiny(pl.LightningModule):
    """One weight, Adam, a schedule: enough for a checkpoint with all its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters())
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)]


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*isinstance.treespec.*", "ignore:.*not resumable.*"
)
def test_a_lightning_trainer_saves_and_resumes_through_it(workplace):
    def trainer(max_steps: int) -> pl.Trainer:
        return pl.Trainer(
            max_steps=max_steps,
            accelerator="cpu",
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    data = torch.utils.data.DataLoader([torch.ones(1)] * 8, batch_size=2)  # pyright: ignore[reportArgumentType]
    first, model = trainer(2), Tiny()
    first.fit(model, data)
    path = checkpoint_path(workplace / "checkpoints", 2)
    first.save_checkpoint(path)
    assert torch.equal(load(path)["state_dict"]["layer.weight"], model.layer.weight.detach())
    second = trainer(4)
    second.fit(Tiny(), data, ckpt_path=str(path), weights_only=True)
    assert second.global_step == 4
    AtomicCheckpointIO().remove_checkpoint(path)
    assert not path.exists()
