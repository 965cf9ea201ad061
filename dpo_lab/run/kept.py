"""The checkpoints that a run keeps: each a file, and a manifest that is written after it and says what is in it."""

import hashlib
import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from dpo_lab.errors import UserError
from dpo_lab.run.checkpoint import checkpoint_path, load, save_atomic, saved_checkpoints
from dpo_lab.run.files import PARTIAL, refusing, sync_folder, write_json

_MANIFEST = re.compile(r"step-(\d+)\.json")

Mode = Literal["min", "max"]


@final
@dataclass(frozen=True)
class Kept:
    """A checkpoint whose manifest agrees with it: `content` is what was saved."""

    path: Path
    step: int
    content: dict[str, Any]


class _TornError(Exception):
    """A checkpoint cannot be used; the message says why."""


def manifest_path(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".json")


def keep(folder: Path, step: int, content: dict[str, Any], *, value: float | None = None) -> Path:
    """Save a checkpoint and, after it, its manifest; what was there of the same step is replaced.

    Whenever the process is killed, what other checkpoints hold is untouched, and this one has either a manifest that
    agrees with it or none.

    Args:
        value: of the metric by which the best checkpoint is chosen; None where there is none, or none yet.

    Raises:
        TypeError: something inside is neither a tensor nor plain, naming its key; nothing is written.
        WriteError: the disk refuses.
    """
    path = checkpoint_path(folder, step)
    with refusing(manifest_path(path)):
        manifest_path(path).unlink(missing_ok=True)
    save_atomic(content, path)
    write_json(
        manifest_path(path),
        {"step": step, "num_bytes": path.stat().st_size, "sha256": _sha256(path), "value": value},
    )
    return path


def set_value(folder: Path, step: int, value: float) -> None:
    """Put the metric's `value` into the manifest of a checkpoint that was saved before it was known."""
    path = manifest_path(checkpoint_path(folder, step))
    write_json(path, {**json.loads(path.read_text()), "value": value})


def newest_sound(folder: Path, say: Callable[[str], None]) -> Kept | None:
    """The newest checkpoint that is whole; None where there is none. `say` gets a line about each that is not."""
    for path in reversed(saved_checkpoints(folder)):
        try:
            return _read(path)
        except _TornError as torn:
            say(f"checkpoint {path.name} is not used: {torn}")
    return None


def read_kept(folder: Path, step: int) -> Kept:
    """The checkpoint of `step`.

    Raises:
        UserError: it is not there, or damaged.
    """
    path = checkpoint_path(folder, step)
    try:
        return _read(path)
    except _TornError as torn:
        raise UserError(f"{path} cannot be used: {torn}") from torn


def best_step(folder: Path, newest: int, mode: Mode) -> tuple[int, float] | None:
    """Step and value of the best kept checkpoint up to step `newest`, the earliest of equals; None without a value."""
    values = sorted(_values(folder).items())
    found = [(step, value) for step, value in values if value is not None and step <= newest]
    if not found:
        return None
    return (min if mode == "min" else max)(found, key=lambda pair: pair[1])


def prune(folder: Path, newest: int, keep_last: int, mode: Mode | None = None) -> None:
    """Delete all but the `keep_last` newest checkpoints up to step `newest` and, with a `mode`, the best one.

    What lies beyond `newest` is left over from before a resume; what has no manifest, or is half written, from a
    process that was killed. Of each checkpoint the manifest goes first.

    Raises:
        ValueError: `keep_last` is below one.
        WriteError: the disk refuses.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last={keep_last}: at least one checkpoint stays")
    steps = sorted(step for step in _values(folder) if step <= newest)
    staying = set(steps[-keep_last:])
    best = None if mode is None else best_step(folder, newest, mode)
    if best is not None:
        staying.add(best[0])
    files = [checkpoint_path(folder, step) for step in staying]
    names = {*files, *map(manifest_path, files)}
    manifests = [path for path in folder.iterdir() if _MANIFEST.fullmatch(path.name)]
    with refusing(folder):
        for path in [*manifests, *saved_checkpoints(folder), *folder.glob(f".*{PARTIAL}")]:
            if path not in names:
                path.unlink()
        sync_folder(folder)


def _read(path: Path) -> Kept:
    try:
        manifest = json.loads(manifest_path(path).read_text(encoding="utf-8"))
        step, num_bytes, digest = manifest["step"], manifest["num_bytes"], manifest["sha256"]
    except FileNotFoundError:
        raise _TornError("it has no manifest, so the process that wrote it was killed meanwhile") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _TornError(f"its manifest is damaged ({error})") from error
    if not path.is_file():
        raise _TornError("it is not there")
    size = path.stat().st_size
    if size != num_bytes:
        raise _TornError(f"it has {size} bytes, and its manifest says {num_bytes}")
    if _sha256(path) != digest:
        raise _TornError("its checksum is not the one in its manifest: bits have changed")
    try:
        content = load(path)
    except (UserError, pickle.UnpicklingError) as error:
        raise _TornError(str(error)) from error
    if not isinstance(content, dict) or not isinstance(step, int):
        raise _TornError("it holds something else than a checkpoint of dpo_lab")
    return Kept(path, step, content)


def _values(folder: Path) -> dict[int, float | None]:
    """The metric of each checkpoint that has a manifest, by its step."""
    values: dict[int, float | None] = {}
    for path in folder.iterdir():
        match = _MANIFEST.fullmatch(path.name)
        if match:
            try:
                value = json.loads(path.read_text(encoding="utf-8")).get("value")
            except (ValueError, AttributeError):
                value = None
            values[int(match[1])] = value if isinstance(value, float) and math.isfinite(value) else None
    return values


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
