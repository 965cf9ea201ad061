"""A run folder from elsewhere may hold links; nothing is written, cut or deleted through one."""

import os
from pathlib import Path

from dpo_lab.errors import UserError

FOREIGN = "wandb"
"""W&B's own folder, in which its service links to its logs."""


def refuse_links(run: Path) -> None:
    """Check, before a run is written into, that what is in its folder lies there.

    Raises:
        UserError: naming the first link inside of the folder.
    """
    for place, folders, files in os.walk(run, followlinks=False):
        for name in sorted([*folders, *files]):
            path = Path(place) / name
            if path.is_symlink():
                raise UserError(
                    f"{path} is a link to {path.readlink()}: a run is not written through links, since what they "
                    "lead to is not the run's. Put the file itself in its place, or take another run"
                )
        if place == str(run):
            folders[:] = [name for name in folders if name != FOREIGN]


def own_folder(run: Path, name: str) -> Path:
    """The folder `name` of a run, to be written into.

    Raises:
        UserError: it is a link, so what it leads to is not the run's.
    """
    path = run / name
    if path.is_symlink():
        raise UserError(f"{path} is a link to {path.readlink()}, and nothing is written through it; say out=PLACE")
    return path
