"""Files of weights looked at before a library reads them, and weights looked at before a run trusts them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpo_lab.errors import UserError

WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(f"{name}.index.json" for name in WHOLE)
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
INTEGERS = frozenset({"I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"})
LFS = b"version https://git-lfs"
NUM_SHOWN = 5


def check_weight_files(folder: Path, names: Sequence[str] = (*WHOLE, *INDEXES)) -> None:
    """Refuse a folder whose weights are not there, not whole, outside of it, or no numbers to train.

    Args:
        names: of the files of which one has to be there.

    Raises:
        UserError: naming the file, and saying what to do.
    """
    there = next((folder / name for name in names if (folder / name).is_file()), None)
    if there is None:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
        raise UserError(f"{folder} holds no weights: none of {', '.join(names)} is there; found: {found}")
    parts = _parts(there) if there.name.endswith(".index.json") else [there]
    for part in parts:
        if not part.is_file():
            raise UserError(f"{there} names {part.name}, which is not there: fetch or copy the whole folder again")
        if part.suffix == ".safetensors":
            _check_safetensors(part)


def _parts(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is no index of weights ({error!r}): fetch or copy it again") from error
    foreign = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if foreign:
        raise UserError(f"{index} names {foreign[0]!r}, which is outside of its folder; it is not read")
    return [index.parent / name for name in sorted(names)]


def _check_safetensors(file: Path) -> None:
    """By its header, which says how long the file must be."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as weights:
            kinds = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        if file.read_bytes()[: len(LFS)] == LFS:
            raise UserError(f"{file} is a pointer of Git LFS, not the weights: fetch them, git lfs pull") from error
        raise UserError(
            f"{file} is no whole safetensors file ({file.stat().st_size} bytes; {error}): fetch or copy it again"
        ) from error
    odd = sorted(name for name, kind in kinds.items() if kind.startswith(("F8", "F4", "C")))
    if odd and not _is_quantized(file.parent):
        raise UserError(
            f"{file} holds numbers of {kinds[odd[0]]} ({some(odd)}), and config.json says nothing of quantisation, so "
            "their scales are not known; give a checkpoint of plain floating-point weights"
        )
    integers = sorted(name for name, kind in kinds.items() if kind in INTEGERS and name.endswith("weight"))
    if integers and not _is_quantized(file.parent):
        raise UserError(
            f"{file} holds whole numbers where weights belong ({some(integers)}), and config.json says nothing of "
            "quantisation; give a checkpoint of floating-point weights"
        )


def _is_quantized(folder: Path) -> bool:
    try:
        return "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def check_finite(what: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are infinite or not a number.

    Raises:
        UserError: naming the tensors.
    """
    bad = {name: _num_bad(tensor) for name, tensor in weights.items() if tensor.is_floating_point()}
    names = sorted(name for name, num in bad.items() if num)
    if names:
        raise UserError(
            f"{what}: {sum(bad.values())} of its weights are infinite or not a number, in {some(names)}; it is "
            "damaged, or of a run that diverged: give another"
        )


def check_shapes(what: str, loaded: dict[str, Any]) -> None:
    """Refuse weights of other shapes than the model's, which transformers would draw anew.

    Raises:
        UserError: naming them with both shapes.
    """
    mismatched = sorted((str(name), tuple(has), tuple(wants)) for name, has, wants in loaded["mismatched_keys"] or ())
    if mismatched:
        shown = some([f"{name} {has}, not {wants}" for name, has, wants in mismatched])
        raise UserError(
            f"{what}: weights of another shape than config.json says: {shown}; give files of one checkpoint"
        )


def _num_bad(tensor: Tensor) -> int:
    return 0 if tensor.is_meta else int((~torch.isfinite(tensor)).sum())


def some(names: Sequence[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(names[:NUM_SHOWN]) + more
