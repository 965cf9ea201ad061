import sys
import time
import types
from typing import Any

import pytest

from dpo_lab.data import hub
from dpo_lab.data.errors import DataError


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
    assert hub.is_hub_name(path) is expected


def test_no_network_is_answered_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "_is_offline", lambda: False)
    monkeypatch.setattr(hub, "_answers", lambda host, port: False)
    with pytest.raises(DataError, match=r"does not answer.*HF_HUB_OFFLINE"):
        hub.read_hub_rows("owner/name")


def test_probe_ends_although_the_name_is_still_looked_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.05)

    def connect(*_: Any, **__: Any) -> None:
        time.sleep(1)
        raise OSError("no such name")

    monkeypatch.setattr(hub.socket, "create_connection", connect)
    start = time.monotonic()
    assert not hub._answers("hub.invalid", 443)
    assert time.monotonic() - start < 0.9


def test_first_connection_goes_to_the_proxy(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert hub._endpoint() == ("huggingface.co", 443)
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.test")
    assert hub._endpoint() == ("mirror.test", 80)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    assert hub._endpoint() == ("proxy.test", 3128)


def fake_datasets(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    class DatasetsError(Exception):
        pass

    module: Any = types.ModuleType("datasets")
    module.load_dataset = load
    exceptions: Any = types.ModuleType("datasets.exceptions")
    exceptions.DatasetsError = DatasetsError
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setitem(sys.modules, "datasets.exceptions", exceptions)
    monkeypatch.setattr(hub, "_is_offline", lambda: True)


def test_name_and_split_are_passed_on(monkeypatch: pytest.MonkeyPatch):
    fake_datasets(monkeypatch, lambda name, split: [{"prompt": f"{name} {split}"}])
    assert list(hub.read_hub_rows("owner/name:test")) == [(1, {"prompt": "owner/name test"})]
    assert list(hub.read_hub_rows("owner/name")) == [(1, {"prompt": "owner/name train"})]


def test_failure_says_name_split_and_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def load(name: str, split: str):
        raise ConnectionError("offline")

    fake_datasets(monkeypatch, load)
    with pytest.raises(DataError, match=r"'owner/name' with split 'test'(.|\n)*owner/name:split"):
        hub.read_hub_rows("owner/name:test")
