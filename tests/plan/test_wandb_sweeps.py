"""Sweep files of W&B: what its agent would start from them, by the agent's own functions, is a command of ours."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps import utils

from dpo_lab.config import find_faults
from dpo_lab.config.overrides import review_each
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR
from dpo_lab.run.read import read_info
from tests.small import SMALL

FILES = sorted((CONF_DIR / "sweep" / "wandb").glob("*.yaml"))


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def command_of(content: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """As `wandb.wandb_agent.Agent._command_run` builds it."""
    words = utils.create_sweep_command(list(content["command"]))
    variables = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    variables |= {"env": ["/usr/bin/env"], "program": [content["program"]], "interpreter": ["python"]}
    command = []
    for word in words:
        is_variable = word.startswith("${") and word.endswith("}")
        command += variables[word[2:-1]] if is_variable else [word]
    return command


def draws(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Every value of each parameter, and both ends of each range."""
    names = content["parameters"]
    values = [
        [given["value"]] if "value" in given else given.get("values") or [given["min"], given["max"]]
        for given in names.values()
    ]
    return [dict(zip(names, row, strict=True)) for row in product(*values)]


def test_there_are_a_grid_and_a_search():
    assert {read(file)["method"] for file in FILES} == {"grid", "bayes"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_the_agent_starts_is_ours(file: Path):
    """Command, then overrides that compose and fit; the metric is one that runs log."""
    content = read(file)
    drawn = draws(content)[:: 5 if content["method"] == "grid" else 1]
    commands = [command_of(content, values) for values in drawn]
    assert all(command[:3] == ["/usr/bin/env", "dpo-lab", "train"] for command in commands)
    for reviewed in review_each([command[3:] for command in commands], Source(str(CONF_DIR), "train")):
        assert reviewed.faults == []
        assert find_faults(reviewed.configs[0]) == []
    assert content["metric"]["name"].startswith("val/")


@pytest.mark.slow
def test_a_run_under_an_agent_is_the_run_that_the_agent_asked_for(root: Path, workplace: Path):
    """W&B's id, project and sweep are those of the agent's environment; here into files, since there is no server."""
    parameters = workplace / "parameters.yaml"
    parameters.write_text("wandb_version: 1\nseed:\n  value: 3\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | {
        "PYTHONPATH": str(root),
        "WANDB_SWEEP_ID": "sw33p",
        "WANDB_RUN_ID": "ag3nt",
        "WANDB_PROJECT": "theirs",
        "WANDB_SWEEP_PARAM_PATH": str(parameters),
    }
    content = read(FILES[0])
    words = command_of(content, {"loss": "ipo", "seed": 3})[3:]
    typed = [word for word in words if word != "logger.mode=online"]
    quick = [word for word in SMALL if not word.startswith("logger")] + ["trainer.max_steps=1", "logger.mode=offline"]
    command = [sys.executable, "-m", "dpo_lab.commands.cli", "train", *typed, *quick]
    done = subprocess.run(command, env=environment, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip())
    assert read_info(run)["wandb"]["id"] == "ag3nt"
    (file,) = run.glob("wandb/offline-run-*-ag3nt/*.wandb")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines()
    (told,) = (json.loads(line)["run"] for line in lines if json.loads(line)["type"] == "run")
    assert (told["run_id"], told["project"], told["sweep_id"]) == ("ag3nt", "theirs", "sw33p")
