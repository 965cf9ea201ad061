"""`dpo-lab reproduce`, end to end: a run of five steps on a file of pairs, made again in every way that is offered."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from dpo_lab.commands import cli
from dpo_lab.commands import train as command
from dpo_lab.run.read import read_info
from tests.small import small_policy

NUM_PAIRS = 40
KNOBS = (
    *("data=files", "data.validation_fraction=0.2", "model=causal_lm", "start=none", "trainer.global_batch_size=8"),
    *("optimizer.lr=0.01", "optimizer.warmup_steps=0", "samples.num=2", "samples.max_new_tokens=4"),
    *("trainer.max_steps=5", "trainer.num_threads=1", "logger=wandb", "logger.mode=offline", "name=first"),
)


def write_pairs(path: Path, **changed: str) -> None:
    """40 sums with a right and a wrong answer; `changed` are answers of row 3."""
    rows = [{"prompt": f"{n} + 2 =", "chosen": f" {n + 2}", "rejected": f" {n + 3}"} for n in range(NUM_PAIRS)]
    rows[2] = {**rows[2], **changed}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with pairs.jsonl, MODEL and runs/first/ID."""
    folder = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(command, "draw_run", lambda *_: None)
        write_pairs(Path("pairs.jsonl"))
        small_policy().export(Path("MODEL"))
        places = [f"data.path={folder}/pairs.jsonl", f"model.path={folder}/MODEL", f"cache_dir={folder}/cache"]
        assert cli.main(["train", *KNOBS, *places, f"runs_dir={folder}/runs"]) == 0
        yield folder


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run elsewhere, in whose folder anything may be done."""
    monkeypatch.setattr(command, "draw_run", lambda *_: None)
    shutil.copytree(the_run(place), "copy")
    return Path("copy")


def the_run(place: Path) -> Path:
    (found,) = (place / "runs/first").iterdir()
    return found


def reproduce(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str, dict[str, Any]]:
    """Exit code, what was printed, what was said, and what the new folder says of the repetition."""
    capsys.readouterr()
    code = cli.main(["reproduce", *map(str, words)])
    said = capsys.readouterr()
    last = said.out.splitlines()[-1] if said.out else ""
    info = read_info(Path(last)) if Path(last).is_dir() and last else {}
    return code, said.out, said.err, info.get("reproduces", {})


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def edit_json(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_the_same_again_is_bit_identical_and_beside_the_original(place: Path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(command, "draw_run", lambda *_: None)
    before = digests(place / "runs/first")
    code, out, err, record = reproduce(capsys, the_run(place).name)
    assert code == 0 and out.startswith("bit-identical: 6 rows of metrics.jsonl, ")
    assert "as it was: config, data, tokenizer, weights, reference, code, versions, threads, device" in err
    assert (record["verdict"], record["id"], record["variation"]) == ("bit-identical", the_run(place).name, [])
    assert digests(place / "runs/first") == before
    made = Path(out.splitlines()[-1])
    assert made == place / "runs/.reproductions/first" / the_run(place).name
    assert not (made / "wandb").exists()
    # Neither a list of runs nor a report takes it for another attempt; a second one has a folder of its own.
    assert cli.main(["runs"]) == 0
    assert "1 of 1 runs" in capsys.readouterr().err
    assert reproduce(capsys, the_run(place).name, "--steps", "1")[0] == 0
    assert len(list(made.parent.iterdir())) == 2


def test_a_copy_whose_data_and_model_lie_elsewhere_is_no_variation(run: Path, place: Path, capsys):
    shutil.copy(place / "pairs.jsonl", "moved.jsonl")
    shutil.copytree(place / "MODEL", "MOVED")
    places = ("data.path=moved.jsonl", "model.path=MOVED", "cache_dir=anew")
    code, out, err, record = reproduce(capsys, "copy", *places, "--steps", "3")
    assert "reference: 0 responses from the cache" in err and list(Path("anew/reference").iterdir())
    assert code == 0 and out.startswith("bit-identical: 4 rows of metrics.jsonl, ")
    assert "variation" not in out + err and "as it was: config" in err
    assert record["steps"] == 3
    made = Path(out.splitlines()[-1])
    assert made.parent.parent.parent.resolve() == Path("runs").resolve() and not (made / "model").exists()


def test_wandb_files_are_enough(place: Path, monkeypatch, capsys):
    monkeypatch.setattr(command, "draw_run", lambda *_: None)
    (files,) = the_run(place).glob("wandb/offline-run-*")
    shutil.copytree(files, "downloaded", symlinks=True)
    assert reproduce(capsys, "downloaded", "--steps", "2")[0] == 0
    shutil.move("downloaded/files/dpo_lab", "alone")
    code, out, _, _ = reproduce(capsys, "alone")
    assert code == 0 and out.startswith("bit-identical: 6 rows of metrics.jsonl")


def test_a_changed_row_of_the_data_is_named(run: Path, capsys):
    write_pairs(Path("other.jsonl"), chosen=" 4, or so I believe")
    code, out, err, record = reproduce(capsys, "copy", "data.path=other.jsonl")
    assert code == 4 and record["cause"] == "data"
    line = "data: training row 2 (other.jsonl row 3) says something else"  # row 1 is one of those that validate
    assert f"a variation of it: {line}" in err and f"  {line}" in out
    assert out.startswith("variation, diverged at step ") and "likeliest cause: the contents of the data differ" in out


def test_a_changed_weight_is_named(run: Path, place: Path, capsys):
    shutil.copytree(place / "MODEL", "OTHER")
    weights = load_file("OTHER/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name][0, 0] += 1.0
    save_file(weights, "OTHER/model.safetensors", metadata={"format": "pt"})
    code, out, err, record = reproduce(capsys, "copy", "model.path=OTHER", "--steps", "2")
    assert code == 4 and record["cause"] == "initial weights"
    assert f"now (model.{name})" in err and "likeliest cause: the weights that training started from differ" in out


def test_a_changed_key_is_named_whether_it_was_typed_or_written_into_the_folder(run: Path, capsys):
    code, out, err, record = reproduce(capsys, "copy", "loss.beta=0.5", "--steps", "2")
    assert (code, record["cause"], record["variation"]) == (4, "config", ["loss.beta: 0.1 then, 0.5 now"])
    assert "a variation of it: loss.beta: 0.1 then, 0.5 now" in err and "  loss.beta: 0.1 then, 0.5 now" in out
    saved = yaml.safe_load((run / "config.yaml").read_text())
    saved["loss"]["beta"] = 0.5
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    code, out, err, record = reproduce(capsys, "copy", "--steps", "2")
    assert (code, record["cause"], record["variation"]) == (4, "config", [])
    assert "not as it was: config: loss.beta: another value then, 0.5 now; config.yaml was changed" in err
    assert reproduce(capsys, "copy", "loss.beta=0.1", "--steps", "2")[0] == 0
    # A run that is older than fingerprints.json is known by its id alone.
    (run / "fingerprints.json").unlink()
    assert "config.yaml was changed after the run: it does not give the run's id" in reproduce(capsys, "copy")[2]


def test_a_changed_version_is_named(run: Path, capsys):
    """As if it had been made elsewhere: another torch, other code, two threads, and another loss at step 2."""
    info = read_info(run)
    edit_json(run / "run.json", packages={**info["packages"], "torch": "1.0", "rich": "0.1"})
    code, out, err, _ = reproduce(capsys, "copy", "--steps", "2")
    assert code == 0 and f"not as it was: versions: torch: 1.0 then, {torch.__version__} now" in err
    assert "other packages, not known to move a number: rich 0.1 then" in err
    rows = (run / "metrics.jsonl").read_text().splitlines()
    rows[2] = json.dumps({**json.loads(rows[2]), "train/loss": 9.0})
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    code, out, _, record = reproduce(capsys, "copy", "--steps", "2")
    assert code == 4 and out.startswith("diverged at step 2 in train/loss: 9 then, ")
    assert record["cause"] == "versions" and f"  torch: 1.0 then, {torch.__version__} now" in out
    edit_json(run / "run.json", packages=info["packages"])
    code, out, _, record = reproduce(capsys, "copy", "--steps", "2")
    assert (code, record["cause"]) == (4, "nondeterminism")
    assert "likeliest cause: nothing that is recorded differs" in out
    parts = json.loads((run / "fingerprints.json").read_text())
    parts["code"]["loss/sigmoid.py"] = "0" * 8
    (run / "fingerprints.json").write_text(json.dumps(parts))
    edit_json(run / "run.json", code={**info["code"], "hash": "0" * 64}, num_threads=2)
    code, out, err, record = reproduce(capsys, "copy", "trainer.num_threads=1", "--steps", "2")
    assert record["cause"] == "code" and "now (loss/sigmoid.py)" in out and "also not as it was: threads" in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plugins": ["evil"]}, "plugins: the saved config names packages outside of dpo_lab"),
        ({"start": {"_target_": "dpo_lab.commands.cli.main"}}, "dpo_lab.commands.cli.main is named by no file"),
        ({"loss": {"_target_": "evil.run"}}, "loss._target_: evil.run lies outside of dpo_lab"),
        ({"seed": "${oc.env:HOME}"}, "seed: would be looked up"),
        ({"name": "<redacted>"}, "name: was not kept, since it is a secret"),
        ({"model": {"trust_remote_code": True}}, "model.trust_remote_code: the saved config would run code"),
    ],
)
def test_a_folder_of_a_stranger_runs_no_code(run: Path, change: dict[str, Any], words: str, capsys, monkeypatch):
    Path("evil.py").write_text("from pathlib import Path\nPath('was_run').touch()\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    saved = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in change.items():
        saved[key] = {**saved[key], **value} if isinstance(value, dict) and key == "model" else value
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    code, out, err, _ = reproduce(capsys, "copy")
    assert code == 2 and words in err and out == ""
    assert not Path("was_run").exists() and not Path("runs").exists()


def test_an_unfinished_run_is_compared_as_far_as_it_came(run: Path, capsys):
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:3]))
    edit_json(run / "run.json", status="interrupted")
    code, out, err, _ = reproduce(capsys, "copy")
    assert code == 0 and "interrupted after step 2); made again up to step 2" in err
    assert out.startswith("bit-identical: 3 rows of metrics.jsonl, ")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "metrics.jsonl").unlink(), "has no row in metrics.jsonl"),
        (lambda run: edit_json(run / "run.json", origin={"id": "abc", "step": 2}), "began after step 2 of abc"),
        (lambda run: edit_json(run / "run.json", hashes=[1]), "run.json is damaged: hashes is no object"),
        (lambda run: (run / "run.json").unlink(), "is no run: it has no run.json"),
        (lambda run: (run / "config.yaml").unlink(), "has no config.yaml"),
    ],
)
def test_what_cannot_be_made_again_is_refused_at_once(run: Path, spoil: Any, words: str, capsys):
    spoil(run)
    code, out, err, _ = reproduce(capsys, "copy")
    assert code == 2 and words in err and out == "" and not Path("runs").exists()


def test_runs_of_a_sweep_in_a_table_with_the_worst_code(run: Path, capsys):
    """Three copies of one run: as it was, with another number in its record, and one that is not finished."""
    for number in (1, 2, 3):
        shutil.copytree(run, f"runs/first/{number}")
        edit_json(Path(f"runs/first/{number}/run.json"), sweep="s", status="failed" if number == 3 else "finished")
    rows = Path("runs/first/2/metrics.jsonl").read_text()
    Path("runs/first/2/metrics.jsonl").write_text(rows.replace('"train/lr": 0.01', '"train/lr": 0.02'))
    sweep = Path("runs/.sweeps/s")
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")
    code, out, _, _ = reproduce(capsys, str(sweep), "--steps", "1")
    assert code == 4
    assert [line.split()[:2] for line in out.splitlines()[-2:]] == [
        ["first/1", "bit-identical"],
        ["first/2", "diverged"],
    ]
    code, out, _, _ = reproduce(capsys, str(sweep), "--steps", "1", "--sample", "1", "--sample-seed", "1")
    assert code == 0 and "first/2" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["copy", "--steps", "0"], "--steps: must be at least 1"),
        (["copy", "other"], "other: not an override"),
        (["copy", "--sample", "2"], "is one run"),
        (["nowhere"], "no such folder"),
        (["copy", "loss.bata=1"], "did you mean loss.beta?"),
    ],
)
def test_what_the_user_can_mend(run: Path, words: list[str], said: str, capsys):
    capsys.readouterr()
    try:
        code = cli.main(["reproduce", *words])
    except SystemExit as error:
        code = error.code
    assert code == 2 and said in capsys.readouterr().err
