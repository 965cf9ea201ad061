"""Checkpoints: whole or absent, and nothing in them but tensors and plain containers."""

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, final

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from dpo_lab.errors import UserError
from dpo_lab.run.files import write_atomic

_PLAIN = (torch.Tensor, torch.nn.Parameter, torch.Size, torch.dtype, str, int, float, bool, bytes, type(None))
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_NAME = re.compile(r"step-(\d+)\.ckpt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after optimizer step `step` lies: names sort as steps do."""
    return folder / f"step-{step:08d}.ckpt"


def save_atomic(obj: Any, path: Path) -> None:
    """Write tensors and plain containers so that `path` holds all of them or stays as it was.

    Raises:
        TypeError: something inside is neither, naming its key; nothing is written.
    """
    check_plain(obj)
    write_atomic(path, lambda file: torch.save(obj, file))


def load(path: Path | str, map_location: Any = "cpu") -> Any:
    """Read what `save_atomic` wrote; no code of the file's making is run (``weights_only=True``).

    Raises:
        UserError: there is no such file, or it is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        # Not torch's own words: they tell how to run what is in the file.
        named = _GLOBAL.search(str(error))
        what = (
            f"it would run {named[1]}" if named else "it is a pickle with more in it than tensors and plain containers"
        )
        raise UserError(f"{path} is damaged or not a checkpoint of dpo_lab: {what}; none of it was run") from error
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(f"{path} is damaged or not a checkpoint of dpo_lab: {error}") from error


def check_plain(obj: Any, name: str = "checkpoint") -> None:
    """Check that only tensors, numbers, texts and plain containers are inside.

    Raises:
        TypeError: naming the key of what is not.
    """
    if type(obj) in (dict, OrderedDict):
        for key, value in obj.items():
            if type(key) not in (str, int, float, bool, tuple, type(None)):
                raise TypeError(f"{name} has a key that is a {type(key).__name__}")
            check_plain(value, f"{name}[{key!r}]")
    elif type(obj) in (list, tuple, set):
        for index, value in enumerate(obj):
            check_plain(value, f"{name}[{index}]")
    elif type(obj) not in _PLAIN:
        raise TypeError(
            f"{name} is a {type(obj).__module__}.{type(obj).__qualname__}; a checkpoint holds tensors, numbers, "
            "texts and plain containers only"
        )


def saved_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest step first."""
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found)]


@final
class AtomicCheckpointIO(CheckpointIO):
    """Lightning saves and loads through `save_atomic` and `load`.

    Lightning's own way fills memory with a second copy, then a file in the folder for temporary files, which a
    kill leaves there for good, and which another file system moves byte by byte.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise TypeError("checkpoints go to a local folder: no storage_options")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_atomic(checkpoint, target)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load(path, "cpu" if map_location is None else map_location)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
