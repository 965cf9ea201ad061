"""The shape of the repository: what stands at its top, how large files are, where `instantiate` is called."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP_LEVEL = {
    "benchmarks",
    "conf",
    "docs",
    "dpo_lab",
    "notebooks",
    "scripts",
    "tests",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
}
MAX_BYTES = 2**20
MAX_LINES = 400


@pytest.fixture(scope="module")
def files(root: Path) -> list[Path]:
    """Every file that git tracks or would track, relative to the root."""
    if not (root / ".git").exists():  # an archive of the sources holds no list of files
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (root / name).is_file()]


def test_top_level_holds_nothing_else(files: list[Path]) -> None:
    top = {path.parts[0] for path in files}
    assert {name for name in top if not name.startswith(".")} - TOP_LEVEL == set()


def test_no_large_file(root: Path, files: list[Path]) -> None:
    sizes = {str(path): (root / path).stat().st_size for path in files}
    assert {path: size for path, size in sizes.items() if size > MAX_BYTES} == {}


def test_no_long_python_file(root: Path, files: list[Path]) -> None:
    lines = {str(path): len((root / path).read_text().splitlines()) for path in files if path.suffix == ".py"}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_hydra_instantiates_nothing_outside_the_composition_root(root: Path) -> None:
    """Config becomes calls in one file; that only `assemble` imports that file is a contract of import-linter."""
    callers = {path.relative_to(root).as_posix() for path in (root / "dpo_lab").rglob("*.py") if _instantiates(path)}
    assert callers <= {"dpo_lab/assemble/instantiate.py"}
    assert (root / "dpo_lab/assemble/instantiate.py").is_file()


@pytest.mark.parametrize(
    "source",
    [
        "from hydra.utils import instantiate",
        "from hydra.utils import call as build",
        "import hydra\nhydra.utils.instantiate(cfg)",
        "from hydra import utils\nutils.instantiate(cfg)",
    ],
)
def test_instantiate_is_found_however_it_is_imported(tmp_path: Path, source: str) -> None:
    (tmp_path / "module.py").write_text(source)
    assert _instantiates(tmp_path / "module.py")


def _instantiates(path: Path) -> bool:
    return any(_names(ast.parse(path.read_text())))


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hydra"):
            yield from (alias.name for alias in node.names if alias.name in {"instantiate", "call"})
        elif isinstance(node, ast.Attribute) and node.attr == "instantiate":
            yield node.attr
