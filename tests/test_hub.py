import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from dpo_lab import hub
from dpo_lab.errors import UserError
from dpo_lab.hub import prepare_hub_access


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No switch forbids the network and no proxy is named; all of it is put back afterwards."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_a_hub_that_answers_is_used(online: pytest.MonkeyPatch):
    online.setattr(hub, "answers", lambda host, port: True)
    prepare_hub_access("owner/name", kind="model")
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(("kind", "fetch"), [("model", "owner/name "), ("dataset", "owner/name --repo-type dataset ")])
def test_without_network_the_error_says_what_to_do(online: pytest.MonkeyPatch, kind: hub.Kind, fetch: str):
    online.setattr(hub, "answers", lambda host, port: False)
    with pytest.raises(UserError, match=rf"{kind} 'owner/name'.*local path.*hf download {fetch}.*HF_ENDPOINT"):
        prepare_hub_access("owner/name", kind=kind)
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("kind", "name"),
    [("model", "HF_HUB_OFFLINE"), ("model", "TRANSFORMERS_OFFLINE"), ("dataset", "HF_DATASETS_OFFLINE")],
)
def test_a_forbidden_network_is_not_asked(online: pytest.MonkeyPatch, kind: hub.Kind, name: str):
    def ask(host: str, port: int) -> bool:
        raise AssertionError("asked")

    online.setattr(hub, "answers", ask)
    online.setenv(name, "on")
    with pytest.raises(UserError):
        prepare_hub_access("owner/name", kind=kind)


def test_what_was_downloaded_is_used_offline(online: pytest.MonkeyPatch):
    online.setattr(hub, "answers", lambda host, port: False)
    online.setattr(hub, "_has_model", lambda name, revision: (name, revision) == ("owner/name", "v1"))
    datasets: Any = types.SimpleNamespace(config=types.SimpleNamespace(HF_HUB_OFFLINE=False))
    online.setitem(sys.modules, "datasets", datasets)
    online.setenv("HF_HUB_OFFLINE", "0")
    prepare_hub_access("owner/name", kind="model", revision="v1")
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE


def test_a_model_is_found_in_the_cache_by_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert hub._has_model("owner/name", "v1")
    assert not hub._has_model("owner/name", None)


def test_a_data_set_is_found_under_the_name_that_datasets_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path)
    (tmp_path / "Owner___some_pairs" / "default" / "0.0.0" / "hash").mkdir(parents=True)
    assert hub._has_dataset("Owner/SomePairs")
    assert not hub._has_dataset("Owner/Other")


def test_the_probe_ends_although_the_name_is_still_looked_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.05)

    def connect(*_: Any, **__: Any) -> None:
        time.sleep(0.5)
        raise OSError("no such name")

    monkeypatch.setattr(hub.socket, "create_connection", connect)
    start = time.monotonic()
    assert not hub.answers("hub.invalid", 443)
    assert time.monotonic() - start < 0.4


def test_the_probe_sees_a_listener_and_a_closed_port():
    with hub.socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert hub.answers("127.0.0.1", port)
    assert not hub.answers("127.0.0.1", port)


def test_the_first_connection_goes_to_the_proxy(online: pytest.MonkeyPatch):
    online.setattr(constants, "ENDPOINT", "https://huggingface.co")
    assert hub._hub_stop() == ("huggingface.co", 443)
    online.setattr(constants, "ENDPOINT", "http://mirror.test")
    assert hub._hub_stop() == ("mirror.test", 80)
    online.setenv("http_proxy", "proxy.test:3128")
    assert hub._hub_stop() == ("proxy.test", 3128)
    online.setenv("no_proxy", "mirror.test")
    assert hub._hub_stop() == ("mirror.test", 80)
