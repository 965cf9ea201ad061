"""Rows of a data set on the Hugging Face hub, by name."""

import os
import re
import socket
import threading
from urllib.parse import urlsplit

from dpo_lab.data.errors import DataError
from dpo_lab.data.read_files import Rows, has_data_ending

PROBE_SECONDS = 3.0

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
        DataError: within seconds, where the hub cannot be reached, or has no such data set or split.
    """
    match = _NAME.fullmatch(path)
    assert match is not None, path
    name, split = match["name"], match["split"] or "train"
    offline = _is_offline()
    if not offline and not _answers(*_endpoint()):
        host, port = _endpoint()
        raise DataError(
            f"{path} is no local file, and the hub ({host}:{port}) does not answer. Give a local file in "
            "data.path; or, if the data set was downloaded before, set HF_HUB_OFFLINE=1 to use that copy."
        )
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        data = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        why = "it is not in the local cache (HF_HUB_OFFLINE is set)" if offline else "the hub did not give it"
        raise DataError(
            f"{path}: no data set {name!r} with split {split!r}: {why}. {type(error).__name__}: {error}\n"
            "A split is named as data.path=owner/name:split; a local file by its path."
        ) from error
    return iter([(number, dict(row)) for number, row in enumerate(data, start=1)])


def _is_offline() -> bool:
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in names)


def _endpoint() -> tuple[str, int]:
    """Host and port that the first connection goes to: the proxy where there is one, else the hub."""
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
    url = urlsplit(proxy or os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    return url.hostname or "huggingface.co", url.port or (80 if url.scheme == "http" else 443)


def _answers(host: str, port: int) -> bool:
    """Whether a connection opens within `PROBE_SECONDS`, the look-up of the name included."""
    opened = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
        except OSError:
            return
        opened.set()

    # A thread, because no time-out of a socket bounds the look-up of a name.
    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)
    return opened.is_set()
