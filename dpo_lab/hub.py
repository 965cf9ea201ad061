"""Whether a name on the model and data hub can be had, answered in seconds and not in a minute of retries."""

import os
import socket
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dpo_lab.errors import UserError

PROBE_SECONDS = 3.0

Kind = Literal["model", "dataset"]


def prepare_hub_access(name: str, *, kind: Kind, revision: str | None = None) -> None:
    """Check that `name` can be loaded: the hub answers, or it was downloaded before.

    Where the hub does not answer, the libraries of this process are told to stay offline: they would retry for most
    of a minute, whatever is on the disk.

    Raises:
        UserError: within seconds, when it is not on this disk and the hub cannot be reached.
    """
    if not _is_offline(kind) and answers(*_hub_stop()):
        return
    if not (_has_model(name, revision) if kind == "model" else _has_dataset(name)):
        raise _unreachable(name, kind)
    _stay_offline()


def _is_offline(kind: Kind) -> bool:
    """Whether the environment forbids the network, now or when the libraries were imported."""
    from huggingface_hub import constants

    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE" if kind == "model" else "HF_DATASETS_OFFLINE")
    now = any(os.environ.get(name, "").upper() in constants.ENV_VARS_TRUE_VALUES for name in names)
    return now or constants.HF_HUB_OFFLINE


def _stay_offline() -> None:
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    datasets = sys.modules.get("datasets")
    if datasets is not None:  # keeps a copy of the switch from when it was imported
        datasets.config.HF_HUB_OFFLINE = True


def _has_model(name: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)


def _has_dataset(name: str) -> bool:
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    *owner, title = name.split("/")
    folder = "___".join([*owner, camelcase_to_snakecase(title)])
    return any((Path(config.HF_DATASETS_CACHE) / folder).glob("*/*/*"))


def _unreachable(name: str, kind: Kind) -> UserError:
    option = "" if kind == "model" else " --repo-type dataset"
    return UserError(
        f"{kind} {name!r} is not a folder or file here, was not downloaded before, and the hub cannot be reached "
        f"(or HF_HUB_OFFLINE is set). Give a local path; or fetch it where there is a network "
        f"(hf download {name}{option} --local-dir FOLDER) and copy FOLDER here; HF_ENDPOINT names a mirror."
    )


def _hub_stop() -> tuple[str, int]:
    from huggingface_hub import constants

    return first_stop(constants.ENDPOINT)


def first_stop(address: str) -> tuple[str, int]:
    """Host and port that the first connection to `address` goes to: the proxy where there is one, else its own."""
    url = urlsplit(address)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def answers(host: str, port: int) -> bool:
    """Whether a connection opens within `PROBE_SECONDS`, the look-up of the name included."""
    opened = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
        except OSError:
            return
        opened.set()

    # A thread, because no time-out of a socket bounds the look-up of a name; a daemon, so that none outlives us.
    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)
    return opened.is_set()
