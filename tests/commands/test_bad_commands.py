"""Whatever is wrong is said in words, before anything is trained: exit code 2, no traceback, no folder of a run."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpo_lab.commands import cli
from tests.commands.bad_commands import AS_PROCESSES, CONFIG, TABLE, Bad, many
from tests.small import small_policy

SECONDS = 5.0
"""CPU time in which a fault of the config is answered; it takes a fraction of a second where all is imported."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a chat template."""
    folder = tmp_path_factory.mktemp("model") / "MODEL"
    small_policy(seed=1).export(folder)
    (folder / "chat_template.jinja").unlink()
    return folder


def prepare(bad: Bad, model: Path) -> list[str]:
    """Write what the overrides of `bad` name, here; the arguments of the command."""
    for name in ("MODEL", "OTHER"):
        if any(name in override for override in bad.overrides):
            shutil.copytree(model, name)
    Path("good.jsonl").write_bytes(many())
    bad.write(Path())
    logger = [] if any(override.startswith("logger.") for override in bad.overrides) else ["logger=local"]
    return ["train", *bad.overrides, *logger]


def check(bad: Bad, code: int, said: str) -> None:
    assert code == 2, said
    assert [word for word in bad.words if word not in said] == [], said
    assert "Traceback" not in said and not list(Path().glob("runs/*/*"))


def test_the_table_is_long_enough():
    assert len(TABLE) >= 90 and len(AS_PROCESSES) == 10


@pytest.mark.parametrize("case", TABLE)
def test_the_answer_to(case: str, model: Path, capsys: pytest.CaptureFixture[str]):
    bad = TABLE[case]
    arguments = prepare(bad, model)
    began = time.process_time()
    code = cli.main(arguments)
    seconds = time.process_time() - began
    check(bad, code, capsys.readouterr().err)
    assert seconds < SECONDS or case.partition(": ")[2] not in CONFIG


@pytest.mark.parametrize("case", AS_PROCESSES)
def test_the_answer_of_a_process_to(case: str, model: Path, root: Path):
    bad = TABLE[case]
    done = subprocess.run(
        [sys.executable, "-m", "dpo_lab.commands.cli", *prepare(bad, model)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    check(bad, done.returncode, done.stderr)
