"""Whether a name on the model and data hub can be had, answered in seconds and not in a minute of retries."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Literal
from urllib.parse import urlparse

from dpo_lab.errors import UserError

PROBE_SECONDS = 3.0


def prepare_hub_access(name: str, *, kind: Literal["model", "dataset"]) -> None:
    """Check that `name` can be loaded: downloaded before, or the hub answers.

    Where the hub does not answer, the libraries are told to stay offline, since they would retry for most of a
    minute.

    Raises:
        UserError: when it is not on this disk and the hub cannot be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    offline = constants.HF_HUB_OFFLINE or not _answers(constants.ENDPOINT)
    if not offline:
        return
    marker = "config.json" if kind == "model" else "README.md"
    if kind == "model" and not isinstance(try_to_load_from_cache(name, marker), str):
        raise _unreachable(name, kind)
    if kind == "dataset" and not _dataset_on_disk(name):
        raise _unreachable(name, kind)
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def _unreachable(name: str, kind: str) -> UserError:
    return UserError(
        f"{kind} {name!r} is not a folder or file here, was not downloaded before, and the hub cannot be reached. "
        f"Give a local path, or fetch it where there is a network (hf download {name}) and copy it here; "
        "HF_ENDPOINT names a mirror"
    )


def _dataset_on_disk(name: str) -> bool:
    from datasets import config

    return os.path.isdir(os.path.join(str(config.HF_DATASETS_CACHE), name.replace("/", "___").lower()))


def _answers(endpoint: str) -> bool:
    url = urlparse(endpoint)
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))

    def connect() -> bool:
        try:
            with socket.create_connection(address, timeout=PROBE_SECONDS):
                return True
        except OSError:
            return False

    pool = ThreadPoolExecutor(max_workers=1)
    try:
        return pool.submit(connect).result(timeout=PROBE_SECONDS)
    except FutureTimeoutError:  # the look-up of a name has no timeout of its own
        return False
    finally:
        pool.shutdown(wait=False)
