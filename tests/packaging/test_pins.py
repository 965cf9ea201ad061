"""constraints.txt: complete, exact, portable; and `make setup` installs what it says."""

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What comes with the interpreter's venv, the project itself, and torch's CUDA parts on machines that have them.
UNPINNED = re.compile(r"pip|dpo-lab|nvidia-.*|cuda-.*|triton")


@pytest.fixture(scope="module")
def pins(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    assert all(len(pair) == 2 for pair in pairs), "every line is name==version"
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_direct_requirement_is_pinned_within_its_range(root: Path, pins: dict[str, str]) -> None:
    text = (root / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    requirements = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]
    outside = [
        str(requirement)
        for requirement in requirements
        if not requirement.specifier.contains(pins[canonicalize_name(requirement.name)])
    ]
    assert outside == []


def test_pins_are_portable(pins: dict[str, str]) -> None:
    """A local version (2.13.0+cpu) or a CUDA part would tie the file to one index or one kind of machine."""
    assert [name for name, version in pins.items() if "+" in version] == []
    assert [name for name in pins if name.startswith(("nvidia-", "cuda-", "triton"))] == []


def test_environment_is_the_pins(root: Path, pins: dict[str, str]) -> None:
    if Path(sys.prefix) != root / ".venv":  # `make test-floors` has other versions on purpose
        pytest.skip("not the environment that `make setup` builds")
    installed = {canonicalize_name(each.metadata["Name"]): each.version.partition("+")[0] for each in distributions()}
    wrong = {
        name: version
        for name, version in installed.items()
        if pins.get(name) != version and not UNPINNED.fullmatch(name)
    }
    assert wrong == {}
