"""Token ids on disk, under a fingerprint of everything they depend on."""

import fcntl
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.types import Encoded, ImageFile
from dpo_lab.whole_files import write_whole

FORMAT = 6

_SCHEMA = pyarrow.schema(
    {
        "name": pyarrow.string(),
        "prompt": pyarrow.list_(pyarrow.int32()),
        "responses": pyarrow.list_(pyarrow.list_(pyarrow.int32())),
        "num_head": pyarrow.int32(),
        "num_boundary_merges": pyarrow.int32(),
        "num_tail": pyarrow.int32(),
        "kind": pyarrow.string(),
        "images": pyarrow.list_(pyarrow.list_(pyarrow.string())),
        "pairs": pyarrow.list_(pyarrow.list_(pyarrow.int32())),
        "win_probabilities": pyarrow.list_(pyarrow.float64()),
        "scores": pyarrow.list_(pyarrow.float64()),
        "labels": pyarrow.list_(pyarrow.int32()),
        "ranking": pyarrow.list_(pyarrow.int32()),
        "is_best_alone": pyarrow.bool_(),
    }
)

_OF_TOKENS = ("prompt", "responses", "num_head", "num_boundary_merges", "num_tail", "kind", "images")
_OF_JUDGEMENT = ("pairs", "win_probabilities", "scores", "labels", "ranking", "is_best_alone")


class CachedTokens(NamedTuple):
    """Data sets by name, what was dropped and cut when they were built, and whether they came from disk."""

    datasets: dict[str, EncodedDataset]
    report: DataReport
    hit: bool


def load_or_encode(
    cache_dir: str | Path, fingerprint: str, build: Callable[[DataReport], Mapping[str, EncodedDataset]]
) -> CachedTokens:
    """The data sets stored as ``cache_dir/tokens/<fingerprint>``, or those that `build` gives, which are then stored.

    Of several processes one builds and the others wait for it. A file that is torn, or was not written by this
    function, is built anew.

    Args:
        fingerprint: a hash of all that the token ids depend on: data, tokenizer, template, settings.
        build: gets an empty report to count into.

    Raises:
        DataError: for a `fingerprint` that is no plain name.
    """
    if not re.fullmatch(r"[\w-]+", fingerprint):
        raise DataError(f"fingerprint {fingerprint!r} is no plain name (letters, digits, '_' and '-').")
    folder = Path(cache_dir) / "tokens" / fingerprint
    stored = _load(folder, fingerprint)
    if stored:
        return stored
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        stored = _load(folder, fingerprint)
        if stored:
            return stored
        report = DataReport()
        datasets = dict(build(report))
        _store(folder, fingerprint, datasets, report)
        return CachedTokens(datasets, report, hit=False)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _store(folder: Path, fingerprint: str, datasets: Mapping[str, EncodedDataset], report: DataReport) -> None:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(_to_table(datasets), sink)
    content = sink.getvalue().to_pybytes()
    record = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "sha256": hashlib.sha256(content).hexdigest(),
        "names": list(datasets),
        "report": report.as_dict(),
    }
    # The record is written last: without it, or without its checksum, the tokens do not count.
    write_whole(folder / "tokens.parquet", content)
    write_whole(folder / "record.json", json.dumps(record, indent=1).encode())


def _load(folder: Path, fingerprint: str) -> CachedTokens | None:
    try:
        record = json.loads((folder / "record.json").read_bytes())
        content = (folder / "tokens.parquet").read_bytes()
    except (FileNotFoundError, ValueError):
        return None
    expected = (FORMAT, fingerprint, hashlib.sha256(content).hexdigest())
    if (
        not isinstance(record, dict)
        or (record.get("format"), record.get("fingerprint"), record.get("sha256")) != expected
    ):
        return None
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    return CachedTokens(_from_table(table, record["names"]), DataReport.from_dict(record["report"]), hit=True)


def _to_table(datasets: Mapping[str, EncodedDataset]) -> pyarrow.Table:
    encoded = [tokens for dataset in datasets.values() for tokens in dataset.encoded]
    judgements = [judgement for dataset in datasets.values() for judgement in dataset.judgements]
    values = {
        "name": [name for name, dataset in datasets.items() for _ in dataset.encoded],
        **{name: [getattr(tokens, name) for tokens in encoded] for name in _OF_TOKENS},
        **{name: [getattr(judgement, name) for judgement in judgements] for name in _OF_JUDGEMENT},
    }
    return pyarrow.table(values, schema=_SCHEMA)


def _from_table(table: pyarrow.Table, names: list[str]) -> dict[str, EncodedDataset]:
    datasets = {name: EncodedDataset([], []) for name in names}
    columns = [_to_tuples(table.column(name).combine_chunks()) for name in _SCHEMA.names]
    for name, *values in zip(*columns, strict=True):
        of_tokens, of_judgement = values[: len(_OF_TOKENS)], values[len(_OF_TOKENS) :]
        fields = dict(zip(_OF_TOKENS, of_tokens, strict=True))
        fields["images"] = tuple(ImageFile(*image) for image in fields["images"])
        datasets[name].encoded.append(Encoded(**fields))
        datasets[name].judgements.append(Judgement(**dict(zip(_OF_JUDGEMENT, of_judgement, strict=True))))
    return datasets


def _to_tuples(array: Any) -> list[Any]:
    """Python values, lists as tuples; through one flat list, since `to_pylist` makes an object a scalar."""
    if not pyarrow.types.is_list(array.type):
        return (
            array.to_pylist() if pyarrow.types.is_string(array.type) else array.to_numpy(zero_copy_only=False).tolist()
        )
    flat, offsets, is_null = _to_tuples(array.values), array.offsets.to_numpy().tolist(), array.is_null().to_pylist()
    return [
        None if nothing else tuple(flat[start:stop])
        for (start, stop), nothing in zip(pairwise(offsets), is_null, strict=True)
    ]
