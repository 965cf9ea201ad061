"""Where the configuration tree lies, in a checkout and in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent


def find_conf_dir(package: Path, checkout: Path) -> Path:
    """The repository's own ``conf/`` when `package` stands in a checkout, else the copy inside the wheel.

    An editable install must see edits of ``conf/``, so the checkout comes first; ``pyproject.toml`` tells a checkout
    from a site-packages folder that happens to hold another project's ``conf/``.
    """
    conf = checkout / "conf"
    if (conf / "train.yaml").is_file() and (checkout / "pyproject.toml").is_file():
        return conf
    return package / "conf"


CONF_DIR: Path = find_conf_dir(_PACKAGE, _CHECKOUT)
"""Absolute folder that holds ``train.yaml`` and one folder per config group."""
