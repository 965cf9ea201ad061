"""The loss that CONTRIBUTING.md adds: its files, written into a copy of the repository, train and keep the laws."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.run import read_run
from tests.small import SMALL, run_train

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)```", PAGE, flags=re.MULTILINE | re.DOTALL))


def test_the_page_shows_three_files():
    assert set(FILES) == {"dpo_lab/loss/squared.py", "conf/loss/squared.yaml", "tests/loss/test_squared.py"}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The repository with the three files in it, and no other change."""
    folder = tmp_path / "copy"
    for part in ("dpo_lab", "conf", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, text in FILES.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(copied: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copied), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, *command], cwd=copied, env=environment, capture_output=True, text=True, timeout=600
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_it_trains(copied: Path):
    run(copied, "-m", "dpo_lab.commands.cli", "train", "loss=squared", "loss.beta=0.5", *SMALL)
    (record,) = (copied / "runs").glob("*/*/run.json")
    trained = read_run(record.parent)
    assert trained.status == "finished"
    # Policy and reference are equal before the first update, so (1 - 0)^2.
    assert trained.metrics[1]["train/loss"] == pytest.approx(1, abs=1e-3)


def test_its_test_and_the_laws_hold(copied: Path):
    told = run(copied, "-m", "pytest", "-q", "tests/loss/test_squared.py", "tests/loss/test_laws.py", "-k", "squared")
    assert re.search(r"\b1\d passed", told), told


def test_it_is_listed(copied: Path):
    assert "squared" in run(copied, "-m", "dpo_lab.commands.cli", "losses")


def test_a_package_of_ones_own(monkeypatch: pytest.MonkeyPatch):
    package, conf = Path("my_package"), Path("my_conf/loss")
    package.mkdir()
    conf.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "squared.py").write_text(FILES["dpo_lab/loss/squared.py"], encoding="utf-8")
    text = FILES["conf/loss/squared.yaml"].replace("dpo_lab.loss.squared", "my_package.squared")
    (conf / "squared.yaml").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    trained = run_train("--config-dir", "my_conf", "loss=squared", "plugins=[my_package]", *SMALL)
    assert trained.metrics[1]["train/loss"] == pytest.approx(1, abs=1e-3)
