"""Tokens that were planted in many places are in no file that a run leaves, W&B's own included."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.commands import cli
from dpo_lab.run import provenance
from tests.data.bad_inputs import GOOD, lines
from tests.small import small_policy

TOKEN = "planted0123456789abcdefPLANTED0123456789"
WRITTEN, IN_URL = "written0123456789abcdefWRITTEN0123456789", "addressed0123456789ADDRESSED0123456789"
"""Known by no variable: known by the name that they are given to, and by standing before the host of an address."""

CHANGE = f"""API_KEY = "{WRITTEN}"
settings = {{"hf_token": "{WRITTEN}", "url": "https://me:{IN_URL}@host/data"}}
headers = {{"Authorization": "Bearer {WRITTEN}"}}
export WANDB_API_KEY={WRITTEN}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if dpo_lab ran from a checkout with a token in its remote, in a tracked file and in a new one."""
    root = tmp_path / "checkout"
    (root / "dpo_lab").mkdir(parents=True)
    for name in ("pyproject.toml", "dpo_lab/tracked.py"):
        (root / name).write_text("# nothing yet\n")
    remote = ("remote", "add", "origin", f"https://me:{IN_URL}@host/repository.git")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), remote, ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    (root / "dpo_lab/tracked.py").write_text(CHANGE)
    (root / "dpo_lab/new.py").write_text(CHANGE)
    monkeypatch.setattr(provenance, "PACKAGE", root / "dpo_lab")
    return root


def test_planted_tokens_are_in_no_file(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In variables of the environment; in the remote and the changes of the checkout that it runs from; on the command
    line; in the name of a folder of data; in the data, and so in samples; and said by no message of a run that fails.
    """
    for name in ("WANDB_API_KEY", "HF_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.chdir(checkout)  # W&B looks for a repository around the working folder
    small_policy(seed=1).export(Path("MODEL"))
    data = Path(TOKEN, "a.jsonl")
    data.parent.mkdir()
    prompts = [f"{number} {TOKEN} https://me:{IN_URL}@host" for number in range(12)]
    data.write_bytes(lines(*({**GOOD, "prompt": prompt} for prompt in prompts)))
    knobs = ["data=files", f"data.path={data}", "model=causal_lm", "model.path=MODEL", "trainer.max_steps=1"]
    knobs += ["trainer.global_batch_size=4", "samples.num=2", "logger.mode=offline"]
    knobs += [f"logger.tags=['https://{IN_URL}@host']"]
    monkeypatch.setattr(sys, "argv", ["dpo-lab", "train", *knobs])
    assert cli.main(["train", *knobs]) == 0
    files = [file for file in Path("runs").rglob("*") if file.is_file()]
    assert {"samples.jsonl", "code.diff", "overrides.yaml"} <= {file.name for file in files}
    assert any(file.suffix == ".wandb" for file in files)
    (diff,) = Path("runs").glob("*/*/code.diff")
    assert diff.read_text().count("<redacted>") >= 2 * 5  # in each of two files five
    tokens = [token.encode() for token in (TOKEN, WRITTEN, IN_URL)]
    assert [str(file) for file in files if any(token in file.read_bytes() for token in tokens)] == []
    capsys.readouterr()
    assert cli.main(["train", *knobs, f"data.path=https://me:{IN_URL}@host/a.jsonl"]) == 2
    assert cli.main(["train", f"+logger.api_key={WRITTEN}"]) == 2
    said = capsys.readouterr().err
    assert not any(token in said for token in (TOKEN, WRITTEN, IN_URL))
    assert json.loads(next(Path("runs").glob("*/*/run.json")).read_text())["status"] == "finished"
