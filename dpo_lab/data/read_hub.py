"""Rows of a data set on the Hugging Face hub, by name."""

import copy
import re
from collections.abc import Mapping
from typing import Any

from dpo_lab.data.errors import DataError
from dpo_lab.data.read_files import has_data_ending
from dpo_lab.data.read_json import Rows
from dpo_lab.hub import prepare_hub_access

_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(:(?P<split>[\w.%+\[\]:-]+))?")


def is_hub_name(path: str) -> bool:
    """Whether `path` reads as ``owner/name`` or ``owner/name:split``, and not as a file of data.

    >>> is_hub_name("owner/name:test"), is_hub_name("folder/train.jsonl"), is_hub_name("./name")
    (True, False, False)
    """
    return bool(_NAME.fullmatch(path)) and not path.startswith(".") and not has_data_ending(path)


def read_hub_rows(path: str) -> Rows:
    """Rows of ``owner/name`` (its split "train") or ``owner/name:split``, numbered from 1.

    Raises:
        UserError: within seconds, where the hub cannot be reached and the data set was not downloaded before.
        DataError: where there is no such data set or split.
    """
    match = _NAME.fullmatch(path)
    assert match is not None, path
    name, split = match["name"], match["split"] or "train"
    prepare_hub_access(name, kind="dataset")
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        data = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(
            f"{path}: no data set {name!r} with split {split!r}. {type(error).__name__}: {error}\n"
            "A split is named as data.path=owner/name:split; a local file by its path."
        ) from error
    data = data.cast(_undecoded(data.features))
    return iter([(number, dict(row)) for number, row in enumerate(data, start=1)])


def _undecoded(features: Any) -> Any:
    """`features` whose images are given as the bytes or paths that they are stored as."""
    import datasets

    features = copy.deepcopy(features)
    inside = [features]
    while inside:
        feature = inside.pop()
        if isinstance(feature, datasets.Image):
            feature.decode = False
        elif isinstance(feature, Mapping):
            inside += feature.values()
        elif hasattr(feature, "feature"):
            inside.append(feature.feature)
    return features
