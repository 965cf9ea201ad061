"""The command line: verbs, exit codes, Hydra's own flags, sweeps that leave nothing behind, and tab completion."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import DictConfig

from dpo_lab.commands import completion
from dpo_lab.commands.cli import VERBS, main
from dpo_lab.errors import UserError
from dpo_lab.sweep import process
from dpo_lab.sweep.record import SweepFolder
from tests.config.stub_conf import write_conf


class TakenError(UserError):
    exit_code = 5


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[DictConfig, list[str]]]:
    """Calls of a `train` that trains nothing; the seed says how it ends."""
    calls: list[tuple[DictConfig, list[str]]] = []

    def train(cfg: DictConfig, overrides: list[str], *, sweep: str | None = None) -> int:
        calls.append((cfg, overrides))
        endings = {7: RuntimeError("boom"), 8: UserError("no data"), 9: KeyboardInterrupt(), 10: TakenError("taken")}
        if cfg.seed in endings:
            raise endings[cfg.seed]
        return 6 if cfg.seed == 6 else 0

    stub = ModuleType("dpo_lab.commands.train")
    stub.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dpo_lab.commands.train", stub)
    return calls


@pytest.fixture
def conf(tmp_path: Path) -> list[str]:
    return ["-cp", str(write_conf(tmp_path))]


def test_help_and_typos_need_no_heavy_import(root: Path) -> None:
    heavy = {"hydra", "omegaconf", "torch", "numpy", "pydantic", "transformers", "pytorch_lightning", "wandb"}
    code = (
        "import sys; from dpo_lab.commands.cli import main\n"
        "assert main(['--help']) == 0 and main(['--version']) == 0 and main(['trian']) == 2 and main([]) == 2\n"
        f"print({heavy!r} & {{name.partition('.')[0] for name in sys.modules}})"
    )
    done = _python(root, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"
    assert "no verb 'trian'; did you mean train?" in done.stderr


def test_overrides_without_a_verb_are_pointed_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loss=ipo"]) == 2
    assert "did you mean dpo-lab train loss=ipo?" in capsys.readouterr().err


def test_every_verb_can_be_imported() -> None:
    from importlib import import_module

    assert all(callable(import_module(verb.module).main) for verb in VERBS.values())


def test_train_gets_the_config_and_the_overrides(trained: list, conf: list[str], workplace: Path) -> None:
    assert main(["train", *conf, "loss=ipo", "seed=3"]) == 0
    [(cfg, overrides)] = trained
    assert (cfg.seed, cfg.loss.normalization, "hydra" in cfg) == (3, "sum", False)
    assert overrides == ["loss=ipo", "seed=3"]
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(("seed", "code"), [(0, 0), (6, 6), (7, 1), (8, 2), (9, 130), (10, 5)])
def test_exit_codes(seed: int, code: int, trained: list, conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *conf, f"seed={seed}"]) == code
    said = capsys.readouterr().err
    assert ("Traceback" in said) == (seed == 7)
    assert ("no data" in said) == (seed == 8)
    assert len(trained) == 1


def test_all_faults_at_once_and_nothing_runs(
    trained: list, conf: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *conf, "loss.bata=1", "seed=-1", "--loss.beta=1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dpo-lab train: 3 faults in the config; nothing was started\n")
    assert "  loss.bata=1: no such key; did you mean loss.beta?" in said
    assert "  seed: must be at least 0, got -1" in said
    assert "  --loss.beta=1: no such flag" in said
    assert "Traceback" not in said
    assert trained == []


def test_a_hydra_override_that_does_not_fit_is_a_usage_error(trained: list, conf: list[str]) -> None:
    assert main(["train", *conf, "hydra.nonsense=1"]) == 2
    assert trained == []


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Jobs of sweeps are processes of `tests.sweep.fake_job`; the seed says how they end."""
    monkeypatch.setattr(process, "MODULE", "tests.sweep.fake_job")
    monkeypatch.setattr(process, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(root))


@pytest.mark.usefixtures("jobs")
def test_a_sweep_runs_every_job_and_leaves_one_folder(
    conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *conf, "-m", "loss=sigmoid,ipo", "seed=1,2"]) == 0
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    told = capsys.readouterr()
    assert told.out == f"{folder}\n"
    assert f"sweep {folder.name}: 4 jobs" in told.err
    sweep = SweepFolder(folder)
    assert [job.overrides for job in sweep.jobs()] == [
        ["loss=sigmoid", "seed=1"],
        ["loss=sigmoid", "seed=2"],
        ["loss=ipo", "seed=1"],
        ["loss=ipo", "seed=2"],
    ]
    assert {path.name for path in folder.iterdir()} == {".lock", "jobs", "multirun.yaml", "sweep.json"}
    assert [path.name for path in workplace.iterdir()] == ["runs"]
    assert Path.cwd() == workplace


@pytest.mark.usefixtures("jobs")
def test_a_sweep_goes_on_after_failures_and_the_same_command_tries_them_again(
    conf: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seed 7 always fails, 8 is killed by someone the first time; 1 is done after the first time, and stays so."""
    command = ["train", *conf, "-m", "seed=7,8,1"]
    assert main(command) == 1
    (folder,) = (workplace / "runs" / ".sweeps").iterdir()
    assert [job.status for job in SweepFolder(folder).jobs()] == ["failed", "failed", "finished"]
    said = capsys.readouterr().err
    assert "ValueError: boom" in said
    assert str(folder / "jobs" / "0" / "log.txt") in said.replace("\n", "")
    assert "job 1 failed (137)" in said and "killed by SIGKILL, which this sweep did not send; out of memory?" in said
    assert "1 finished, 2 failed" in said
    assert main(command) == 1
    assert [job.status for job in SweepFolder(folder).jobs()] == ["failed", "finished", "finished"]
    assert [len((folder / "jobs" / str(n) / "begun.txt").read_text().splitlines()) for n in range(3)] == [2, 2, 1]


def test_a_sweep_that_is_none_cannot_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "resume", str(tmp_path)]) == 2
    assert f"{tmp_path} is no sweep" in capsys.readouterr().err


def test_a_wrong_choice_of_a_sweep_stops_all_of_it(trained: list, conf: list[str]) -> None:
    assert main(["train", *conf, "-m", "seed=1,-1"]) == 2
    assert trained == []


def test_questions_are_answered_by_hydra(trained: list, conf: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A value out of range is shown by ``--cfg``, not refused; a key that does not exist is refused."""
    assert main(["train", *conf, "--cfg", "job", "--package", "loss", "--resolve", "loss.beta=-1"]) == 0
    assert "beta: -1\n" in capsys.readouterr().out
    assert main(["train", *conf, "--info", "searchpath"]) == 0
    assert main(["train", *conf, "--help"]) == 0
    assert main(["train", *conf, "-c", "job", "loss.bata=1"]) == 2
    with pytest.raises(SystemExit) as raised:
        main(["train", *conf, "--resolve"])
    assert raised.value.code == 2
    assert trained == []


def test_the_shipped_help_and_config_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert "loss: " in said and "sigmoid" in said
    assert 'eval "$(dpo-lab train -sc install=bash)"' in said
    assert main(["train", "--cfg", "job", "--resolve"]) == 0
    assert "_target_: dpo_lab.loss.sigmoid.sigmoid" in capsys.readouterr().out


def test_the_script_is_the_same_entry(root: Path, workplace: Path) -> None:
    done = _python(workplace, str(root / "scripts" / "train.py"), "--cfg", "job", "--package", "seed", "seed=5")
    assert (done.returncode, done.stdout) == (0, "5\n")


@pytest.mark.parametrize(
    ("line", "verbs"),
    [("dpo-lab ", ["train"]), ("dpo-lab t", ["train"]), ("dpo-lab x", []), ("dpo-lab train ", None)],
)
def test_verbs_are_completed(line: str, verbs: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert completion.complete_verb(["train"]) == verbs


def test_what_stands_right_of_the_cursor_is_not_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "dpo-lab tr loss=ipo")
    monkeypatch.setenv("COMP_POINT", str(len("dpo-lab tr")))
    assert completion.complete_verb(["train"]) == ["train"]


@pytest.mark.parametrize("line", ["dpo-lab train loss=", "dpo-lab loss=", "python scripts/train.py loss="])
def test_a_query_is_handed_to_hydra_without_the_verb(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.delenv("COMP_POINT", raising=False)
    assert main(["train", "-sc", "query=bash"]) == 0
    assert "loss=ipo" in capsys.readouterr().out.split()


COMPLETE = """
eval "$(dpo-lab {install} install=bash)"
complete -p dpo-lab >&2
complete_line() {{
    COMP_LINE=$1 COMP_POINT=${{#1}} COMP_WORDS=($1)
    [[ $1 == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )) COMPREPLY=()
    hydra_bash_completion
    echo "${{COMPREPLY[*]}}"
}}
complete_line "dpo-lab tr"
complete_line "dpo-lab train loss=i"
complete_line "dpo-lab train loss.be"
complete_line "dpo-lab train -m loss=ipo loss.no"
complete_line "dpo-lab train nonsense( lo"
"""


def test_bash_completes_the_installed_command(root: Path, tmp_path: Path) -> None:
    command = tmp_path / "dpo-lab"  # as pip writes it
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom dpo_lab.commands.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = COMPLETE.format(install="-sc")
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["train", "loss=ipo", "loss.beta=", "loss.normalization=", ""]
    assert "-F hydra_bash_completion dpo-lab" in done.stderr


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
