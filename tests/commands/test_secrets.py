"""A token that was planted in many places is in no file that a run leaves, W&B's own included."""

import json
from pathlib import Path

import pytest

from dpo_lab.commands import cli
from tests.data.bad_inputs import GOOD, lines
from tests.small import small_policy

TOKEN = "planted0123456789abcdefPLANTED0123456789"


def test_a_planted_token_is_in_no_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """In variables of the environment, in the data, and so in samples; and said by no message of a run that fails."""
    for name in ("WANDB_API_KEY", "HF_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, TOKEN)
    small_policy(seed=1).export(Path("MODEL"))
    Path("a.jsonl").write_bytes(lines(*({**GOOD, "prompt": f"{number} {TOKEN}"} for number in range(12))))
    knobs = ("data=files", "data.path=a.jsonl", "model=causal_lm", "model.path=MODEL", "trainer.max_steps=1")
    assert cli.main(["train", *knobs, "trainer.global_batch_size=4", "samples.num=2", "logger.mode=offline"]) == 0
    files = [file for file in Path("runs").rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in files) and any(file.name == "samples.jsonl" for file in files)
    assert [str(file) for file in files if TOKEN.encode() in file.read_bytes()] == []
    capsys.readouterr()
    assert cli.main(["train", *knobs, f"data.path=https://me:{TOKEN}@host/a.jsonl"]) == 2
    assert cli.main(["train", f"+logger.api_key={TOKEN}"]) == 2
    assert TOKEN not in capsys.readouterr().err
    assert json.loads(next(Path("runs").glob("*/*/run.json")).read_text())["status"] == "finished"
