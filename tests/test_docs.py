"""Every command of the README and every block of Python in the docs runs as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.commands import cli
from dpo_lab.model.small_seq2seq import small_seq2seq
from dpo_lab.report.records import read_record
from tests.report.folders import rows, write_run
from tests.small import small_policy

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\|[^|]+\| `(dpo-lab [^`]+)` \|$", README, flags=re.MULTILINE)
QUICK = ["trainer.max_steps=2", "trainer.global_batch_size=8", "samples.num=2", "samples.max_new_tokens=4"]
SMALL_MODEL = ["model.hidden_size=16", "model.num_layers=1", "model.num_heads=2", "model.vocab_size=300"]
SMALL_START = ["start.max_steps=2", "start.global_batch_size=8"]
SMALL_DATA = ["data.num_pairs=24", "data.num_validation_pairs=8", "data.num_demonstrations=16"]


OF_DATA = {
    "files": [],
    "headlines": ["data.num_train=40", "data.num_validation=8"],
    "facts": ["data.num_passages=6"],
    "interactions": ["data.num_negatives=2"],
}


def shrink(command: str) -> list[str]:
    """What to add so that the command means the same thing and takes seconds."""
    extra = list(QUICK)
    if "model.path" not in command:
        sizes = SMALL_MODEL[:-1] if "experiment=recommendation" in command else SMALL_MODEL  # its items are its tokens
        extra += sizes if "start=none" in command else sizes + SMALL_START
    extra += next((small for data, small in OF_DATA.items() if f"data={data}" in command), SMALL_DATA)
    if "logger=" not in command:
        extra.append("logger=local")
    named = {argument.partition("=")[0] for argument in shlex.split(command)}
    return [override for override in extra if override.partition("=")[0] not in named]


@pytest.fixture
def files() -> None:
    """What the README's placeholders stand for: pairs.jsonl, judged.jsonl, ratings.csv, MODEL, OTHER and T5."""
    rows = [
        {"prompt": f"{a} + {b} =", "chosen": f" {a + b}", "rejected": f" {a + b + 1}"}
        for a in range(6)
        for b in range(5)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = [
        {"prompt": row["prompt"], "response": row[side], "label": side == "chosen"}
        for row in rows
        for side in ("chosen", "rejected")
    ]
    Path("judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in judged))
    small_policy(seed=1).export(Path("MODEL"))
    small_policy(seed=2).export(Path("OTHER"))
    small_seq2seq([row["prompt"] for row in rows], 3, hidden_size=16, num_layers=1, num_heads=2, vocab_size=300).export(
        Path("T5")
    )
    ratings = [f"{user},{(user + step) % 9},{step}" for user in range(9) for step in range(7)]
    Path("ratings.csv").write_text("\n".join(["userId,movieId,timestamp", *ratings]) + "\n")


def test_readme_lists_commands():
    assert len(COMMANDS) >= 12


TRAINS = [command for command in COMMANDS if command.startswith("dpo-lab train") and "--" not in command]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", TRAINS)
def test_command_of_the_readme_trains(command: str):
    if "on_problem" in command:
        with Path("pairs.jsonl").open("a") as file:
            file.write('{"prompt": "1 + 1 =", "chosen": "", "rejected": " 3"}\n')
    _, *arguments = shlex.split(command)
    assert cli.main([*arguments, *shrink(command)]) == 0
    assert list(Path("runs").glob("*/*/metrics.jsonl"))


LOOKS = [command for command in COMMANDS if command.startswith(("dpo-lab audit", "dpo-lab inspect"))]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", LOOKS)
def test_command_of_the_readme_looks(command: str, capsys: pytest.CaptureFixture[str]):
    _, *arguments = shlex.split(command)
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "in the loss" in shown or "## Tokens" in shown


REPORTS = [command for command in COMMANDS if command.startswith("dpo-lab report")]


@pytest.mark.parametrize("command", REPORTS)
def test_command_of_the_readme_reports(command: str):
    for seed in range(2):
        write_run(Path("runs"), seed=seed, metrics=rows(0.6 + seed / 10))
    assert cli.main(shlex.split(command)[1:]) == 0
    assert list(Path("runs/.reports").glob("*/report.html"))


OF_A_RUN = [command for command in COMMANDS if " RUN" in command]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", OF_A_RUN)
def test_command_of_the_readme_takes_a_run(command: str):
    # Attributions are of a text that is read as a whole.
    train = "dpo-lab train model=small_classifier data=headlines" if "--attributions" in command else "dpo-lab train"
    assert cli.main([*shlex.split(train)[1:], *shrink(train)]) == 0
    (run,) = Path("runs/default").iterdir()
    assert cli.main(shlex.split(command.replace(" RUN", f" {run}"))[1:]) == 0


RULES = [command for command in COMMANDS if command.startswith("dpo-lab runs prune")]


@pytest.mark.parametrize("command", RULES)
def test_command_of_the_readme_deletes_nothing_unasked(command: str, capsys: pytest.CaptureFixture[str]):
    for seed in range(4):
        (write_run(Path("runs"), seed=seed, metrics=rows(0.6 + seed / 10)) / "checkpoints").mkdir()
    assert cli.main(shlex.split(command)[1:]) == 0
    assert "made/sigmoid-0.1-0  finished  checkpoints" in capsys.readouterr().out
    assert len(list(Path("runs").glob("*/*/checkpoints"))) == 4


OF_A_MODEL = [command for command in COMMANDS if command.startswith("dpo-lab paraphrase")]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", OF_A_MODEL)
def test_command_of_the_readme_takes_a_model(command: str):
    _, *arguments = shlex.split(command)
    assert cli.main([*arguments, "--max-new-tokens", "60"]) == 0
    assert Path(arguments[arguments.index("--out") + 1]).is_file()


OTHERS = [command for command in COMMANDS if command not in TRAINS + LOOKS + REPORTS + OF_A_RUN + RULES + OF_A_MODEL]


@pytest.mark.parametrize("command", OTHERS)
def test_command_of_the_readme_answers(command: str):
    _, *arguments = shlex.split(command)
    process = [sys.executable, "-m", "dpo_lab.commands.cli", *arguments]
    answer = subprocess.run(process, capture_output=True, text=True, check=True)
    assert "loss" in answer.stdout or " cache " in command
    assert {path.name for path in Path().iterdir()} == set(re.findall(r"--png (\S+)", command))


def test_error_shown_in_the_readme_is_the_error(capsys: pytest.CaptureFixture[str]):
    (command, shown) = re.findall(r"```console\n\$ dpo-lab ([^\n]+)\n(.*?)```", README, flags=re.DOTALL)[0]
    assert cli.main(shlex.split(command)) == 2
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_python_in_the_docs_runs(page: str):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in blocks:
        exec(compile(block, page, "exec"), {"__name__": page})


def run_notebook(name: str, num_cells: int | None = None) -> dict[str, Any]:
    """Run a notebook, or its first cells, in the present folder; what they have named. Notebooks define nothing."""
    cells = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
    code = "\n".join(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][:num_cells])
    assert not re.search(r"^\s*(def|class) ", code, flags=re.MULTILINE), "what is worth defining has a room"
    found: dict[str, Any] = {"__name__": name}
    exec(compile(code, name, "exec"), found)
    return found


def test_every_notebook_is_run():
    assert {path.name for path in (ROOT / "notebooks").iterdir()} == {"quickstart.ipynb", "ablation.ipynb"}


def test_notebook_that_trains():
    found = run_notebook("quickstart.ipynb")
    assert found["exit_code"] == 0 and found["run"].status == "finished"


def test_notebook_that_reads_an_ablation():
    """Of runs made of numbers. ipo has both pairs of the longer chosen response right and sigmoid one."""
    for loss, beta, seed in product(("sigmoid", "ipo"), (0.1, 1.0), (0, 1)):
        pairs = {"chosen": [1.0, 1.0], "rejected": [0.0, 0.0 if loss == "ipo" else 2.0], "chosen_length": [9, 7]}
        curves = {"val/log_ratios/chosen": beta, "val/log_ratios/rejected": -1.0 - seed}
        metrics = rows(0.6 + seed / 100, kl=2 - beta, **curves)
        write_run(Path("runs"), name="ablation", loss=loss, beta=beta, seed=seed, metrics=metrics, pairs=pairs)
    found = run_notebook("ablation.ipynb")
    assert len(found["runs"]) == 8 and found["study"].baseline.label == "loss=sigmoid loss.beta=0.1"
    assert found["share_right"].loc[:, "ipo"].tolist() == [1.0, 1.0]
    assert sorted(found["share_right"].loc[:, "sigmoid"]) == [0.0, 1.0]
    assert {chart.name for chart in found["charts"]} >= {
        "beta-val-log_ratios-margins",
        "curve-0-val-rewards-accuracies",
    }


def test_notebook_makes_the_ablation_that_it_reads(monkeypatch: pytest.MonkeyPatch):
    """Its first cell, with fewer steps: of its eight runs the first and the last are trained, the others composed."""
    codes: list[int] = []
    short = (
        "trainer.max_steps=2",
        "trainer.validate_every=1",
        "samples.num=2",
        *SMALL_MODEL,
        *SMALL_DATA,
        *SMALL_START,
    )
    real = cli.main

    def train(argv: list[str]) -> None:
        compose = [] if len(codes) in (0, 7) else ["--cfg", "job"]
        codes.append(real([*argv, *short, *compose]))

    monkeypatch.setattr(cli, "main", train)
    monkeypatch.setattr("dpo_lab.commands.train.draw_run", lambda *_: None)
    run_notebook("ablation.ipynb", num_cells=1)
    assert codes == [0] * 8
    runs = [read_record(path.parent) for path in Path("runs/ablation").glob("*/run.json")]
    found = sorted((run.config["loss"], run.config["loss.beta"], run.config["seed"], run.status) for run in runs)
    assert found == [("ipo", 1.0, 1, "finished"), ("sigmoid", 0.1, 0, "finished")]


def test_links_of_the_docs_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
