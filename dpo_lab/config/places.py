"""Files and folders that a config names: whether they are there, or could be made. Cross-checks, as in `cross`."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".txt")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
MAX_NAME_BYTES = 255
"""Of one part of a path, on the file systems of Linux and macOS."""


def local(path: str) -> Path:
    """`path` with the home that a tilde stands for; as it is where that user is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def kind_of(path: Path) -> Literal["file", "folder"] | None:
    """What lies at `path`, links followed; None for nothing, and for what cannot be the name of anything."""
    try:
        return "folder" if stat.S_ISDIR(path.stat().st_mode) else "file"
    except (OSError, ValueError):
        return None


def data_files_exist(cfg: dict[str, Any]) -> Iterator[str]:
    """What looks like a path to data must be one; anything else is taken for a hub name."""
    data = _group(cfg, "data")
    for key in ("path", "validation_path", "test_path"):
        paths = data.get(key)
        for path in paths if isinstance(paths, list) else [paths]:
            if path == "":
                yield f"data.{key}: is empty; give a file, or a name on the hub"
            elif isinstance(path, str) and _looks_like_a_file(path) and kind_of(local(path)) is None:
                yield f"data.{key}: no such file or folder: {path} (looked in {Path.cwd()})"


def files_of_steps_exist(cfg: dict[str, Any]) -> Iterator[str]:
    """What a step on rows reads is there before the rows are read."""
    for name, step in _group(cfg, "prepare").items():
        path = step.get("path") if isinstance(step, dict) else None
        if isinstance(path, str) and path != "???" and kind_of(local(path)) != "file":
            yield f"prepare.{name}.path: no such file: {path} (looked in {Path.cwd()})"


def model_folders_exist(cfg: dict[str, Any]) -> Iterator[str]:
    """A model is a folder that is there, or a name that the hub could know."""
    for group in ("model", "reference"):
        path = _group(cfg, group).get("path")
        if not isinstance(path, str) or path == "???":
            continue
        kind = kind_of(local(path)) if path else None
        if kind == "folder" and (revision := _group(cfg, group).get("revision")):
            yield f"{group}.revision: is of a name on the hub, and {path} is a folder here; leave {revision!r} out"
        if kind == "file":
            yield f"{group}.path: {path} is a file; give the folder that holds config.json and the weights"
        elif kind is None and not HUB_NAME.fullmatch(path):
            where = f"no folder here (looked in {Path.cwd()}) and no hub name (owner/name)"
            yield f"{group}.path: {path or repr(path)} is {where}"


def folders_can_be_written(cfg: dict[str, Any]) -> Iterator[str]:
    """Runs and caches go to folders that exist or can be made."""
    for key in ("runs_dir", "cache_dir"):
        path = cfg.get(key)
        if path == "":
            yield f"{key}: is empty; give a folder"
        elif isinstance(path, str) and path != "???" and (refusal := _refusal_of_folder(path)):
            yield f"{key}: {refusal}"


def _refusal_of_folder(path: str) -> str | None:
    """Why no file could be written into the folder `path`, made where it is not there; None where one could."""
    folder = local(path).absolute()
    if path.startswith("~") and local(path) == Path(path):
        return f"{path} names the home of a user that is not known here; write the whole path"
    if "\0" in path or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in folder.parts):
        return f"cannot make {folder!r}: no file system takes a name of more than {MAX_NAME_BYTES} bytes or with a NUL"
    nearest = next(parent for parent in (folder, *folder.parents) if parent.is_symlink() or kind_of(parent))
    if kind_of(nearest) is None:
        return f"cannot make {folder}, since {nearest} is a link to {nearest.readlink()}, which is not there"
    if not nearest.is_dir():
        return f"cannot make {folder}, since {nearest} is a file"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"cannot write to {folder}: no permission in {nearest}"
    refusal = _refusal_of_file(nearest)
    return f"cannot write to {folder}: {refusal} in {nearest}" if refusal else None


def _refusal_of_file(folder: Path) -> str | None:
    """Why no file can be made there, tried with one that no name is given to."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _looks_like_a_file(path: str) -> bool:
    return path.startswith(("/", "./", "../", "~")) or path.lower().endswith(DATA_SUFFIXES) or path.count("/") > 1


def _group(cfg: dict[str, Any], name: str) -> dict[str, Any]:
    node = cfg.get(name)
    return node if isinstance(node, dict) else {}
