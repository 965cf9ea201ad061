"""What W&B finds on this machine: a key or none, and where its own files go."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

# Where keys for the public service have been kept, whatever address this version of the client calls.
_PUBLIC_HOST = "api.wandb.ai"


def has_key() -> bool:
    """Whether a W&B key is configured: in the environment, W&B's settings or netrc. Asks nobody."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb.setup().settings
    hosts = [urlsplit(settings.base_url).netloc]
    if not os.environ.get("WANDB_BASE_URL"):
        hosts.append(_PUBLIC_HOST)
    return bool(settings.api_key) or any(_in_netrc(host) for host in hosts)


def quiet_environment(folder: Path) -> dict[str, str | None]:
    """Have W&B keep silent and keep its files under `folder`, where the user has not said otherwise.

    Returns what was there before, for `restore_environment`. Some of it W&B reads from the environment only,
    and only on import.
    """
    folder.mkdir(exist_ok=True)
    wanted = {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_CACHE_DIR": str(folder / "cache"),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if before[name] is None})
    return before


def restore_environment(before: dict[str, str | None]) -> None:
    """Undo `quiet_environment`."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _in_netrc(host: str) -> bool:
    home = Path.home()
    named = os.environ.get("NETRC")
    for file in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        try:
            found = netrc.netrc(str(file)).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return True
    return False
