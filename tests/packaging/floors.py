"""Prints, as pip constraints, every direct requirement of pyproject.toml at the lowest version it admits.

The tools of the `dev` extra stay at the versions of constraints.txt: what is tested is the package's floors.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def name_of(requirement: str) -> str:
    """The distribution that a requirement or a pin names, as indexes spell it.

    >>> name_of("pyright[nodejs]>=1.1.405"), name_of("pre_commit==4.7.0")
    ('pyright', 'pre-commit')
    """
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def floor(requirement: str) -> str:
    """`name>=low,<high` as `name==low`.

    >>> floor("hydra-core>=1.3.4,<1.4")
    'hydra-core==1.3.4'

    Raises:
        ValueError: for a requirement without a floor.
    """
    low = re.search(r">=([\w.]+)", requirement)
    if low is None:
        raise ValueError(f"{requirement!r} has no floor (>=)")
    return f"{name_of(requirement)}=={low[1]}"


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = {name_of(requirement) for requirement in project["optional-dependencies"]["dev"]}
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    lines = [*map(floor, project["dependencies"]), *(pin for pin in pins if name_of(pin) in tools)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
