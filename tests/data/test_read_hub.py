import sys
import types
from typing import Any

import pytest

from dpo_lab.data import read_hub
from dpo_lab.data.errors import DataError, RowError
from dpo_lab.errors import UserError


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("owner/name", True),
        ("owner/na.me-1:train[:10%]", True),
        ("folder/train.jsonl", False),
        ("folder/train.csv.gz", False),
        ("./name", False),
        ("/owner/name", False),
        ("a/b/c", False),
        ("name", False),
    ],
)
def test_names(path: str, expected: bool):
    assert read_hub.is_hub_name(path) is expected


def test_without_network_the_error_says_what_to_do():
    with pytest.raises(UserError, match=r"dataset 'owner/name' .*hf download owner/name --repo-type dataset"):
        read_hub.read_hub_rows("owner/name:test")


def fake_datasets(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    class DatasetsError(Exception):
        pass

    module: Any = types.ModuleType("datasets")
    module.load_dataset = load
    exceptions: Any = types.ModuleType("datasets.exceptions")
    exceptions.DatasetsError = DatasetsError
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setitem(sys.modules, "datasets.exceptions", exceptions)
    monkeypatch.setattr(read_hub, "prepare_hub_access", lambda name, kind: None)


def test_name_and_split_are_passed_on_and_images_are_not_decoded(monkeypatch: pytest.MonkeyPatch):
    import datasets

    def load(name: str, split: str):
        image = {"bytes": b"not yet looked at", "path": None}
        features = datasets.Features(prompt=datasets.Value("string"), images=datasets.List(datasets.Image()))
        return datasets.Dataset.from_list([{"prompt": f"{name} {split}", "images": [image]}], features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(read_hub, "prepare_hub_access", lambda name, kind: None)
    [(number, row)] = read_hub.read_hub_rows("owner/name:test")
    assert not isinstance(row, RowError)
    assert (number, row["prompt"]) == (1, "owner/name test")
    assert row["images"] == [{"bytes": b"not yet looked at", "path": None}]
    [(_, row)] = read_hub.read_hub_rows("owner/name")
    assert not isinstance(row, RowError)
    assert row["prompt"] == "owner/name train"


def test_failure_says_name_split_and_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def load(name: str, split: str):
        raise ConnectionError("offline")

    fake_datasets(monkeypatch, load)
    with pytest.raises(DataError, match=r"'owner/name' with split 'test'(.|\n)*owner/name:split"):
        read_hub.read_hub_rows("owner/name:test")
