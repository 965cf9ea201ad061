"""The wheel and the source archive: built without a network, complete, and at home in an empty folder."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SDIST_ONLY = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive of the working tree."""
    pytest.importorskip("hatchling", reason="the build backend of the dev extra is not installed")
    folder = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=root)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, without its dependencies: those of this environment serve."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    _run([*pip, "--target", str(target), str(wheel)], cwd=target)
    return target


def test_wheel_holds_the_package_and_conf_and_nothing_else(root: Path, wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == _sources(root / "dpo_lab", "dpo_lab") | _sources(root / "conf", "dpo_lab/conf")


def test_sdist_holds_the_package_and_conf_and_nothing_else(root: Path, built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert names - SDIST_ONLY == _sources(root / "dpo_lab", "dpo_lab") | _sources(root / "conf", "conf")


def test_wheel_declares_its_command_and_license(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert "dpo-lab = dpo_lab.commands.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert "License-Expression: MIT" in archive.read(f"{info}/METADATA").decode()


def test_installed_command_finds_its_configs_in_an_empty_folder(installed: Path, workplace: Path) -> None:
    """`--cfg job` composes and prints: nothing of the repository is in reach, and nothing is left behind."""
    shown = _installed(installed, workplace, "train", "--cfg", "job", "loss=ipo")
    assert "_target_: dpo_lab.loss.ipo.ipo" in shown
    assert list(workplace.iterdir()) == []


def test_installed_package_is_the_one_that_ran(installed: Path, workplace: Path) -> None:
    """Guards the test above: the editable install of this environment must not have answered in its place."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", "import dpo_lab; print(dpo_lab.__file__)"]
    where = _run(command, cwd=workplace, environment=environment).strip()
    assert Path(where).is_relative_to(installed)


def _installed(site: Path, folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    return _run([str(site / "bin" / "dpo-lab"), *arguments], cwd=folder, environment=environment)


def _run(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _sources(folder: Path, prefix: str) -> set[str]:
    """Names, under `prefix`, of the files of a source folder, caches of the interpreter left out."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{prefix}/{path.relative_to(folder).as_posix()}" for path in paths}
