"""Whole runs of a policy that sees, through the commands."""

import json
import shutil
from pathlib import Path

import pytest

from dpo_lab.commands import cli
from dpo_lab.data.shapes import shapes
from dpo_lab.run.checkpoint import saved_checkpoints
from dpo_lab.run.files import write_json
from dpo_lab.run.kept import manifest_path
from dpo_lab.run.read import read_run
from tests.small import run_train
from tests.torture.torture import compare

TINY = ("model.hidden_size=16", "model.num_heads=2", "model.num_layers=1", "model.vocab_size=300")
SEES = (
    *("model=small_vision_language", "data=files", "data.path=pictures/pairs.jsonl", "data.validation_fraction=0.3"),
    *(*TINY, "start.max_steps=2", "start.global_batch_size=8", "optimizer.warmup_steps=0", "logger=local"),
    *("trainer.global_batch_size=8", "trainer.max_steps=4", "samples.num=2", "samples.max_new_tokens=4"),
)


@pytest.fixture
def pairs() -> Path:
    """A data file beside its pictures."""
    folder = Path("pictures")
    folder.mkdir()
    rows = []
    for number, example in enumerate(shapes(folder / "drawn", num_pairs=24).train):
        shutil.copy(example.images[0].path, folder / f"{number}.bmp")
        asked = example.prompt[0]["content"]  # type: ignore[index]
        rows.append(
            {
                "images": [f"{number}.bmp"],
                "prompt": asked,
                **dict(zip(("chosen", "rejected"), example.responses, strict=True)),
            }
        )
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_pixels_decide():
    """The same questions, with the pictures and without: chance is 0.5, and 60 pairs leave it by 0.13 in 1 of 20."""
    found = {}
    for blank in ("false", "true"):
        run = run_train(
            *("model=small_vision_language", "model.hidden_size=32", "model.num_heads=2", "model.num_layers=1"),
            *("model.vocab_size=300", "start=none", "data=shapes", f"data.blank={blank}", "data.num_pairs=240"),
            *("data.num_validation_pairs=60", "data.num_demonstrations=1", "trainer.global_batch_size=16"),
            *("trainer.max_steps=60", "optimizer.lr=5e-3", "optimizer.schedule=constant", "reference.cache=off"),
            *("samples.num=0", "logger=local"),
        )
        found[blank] = run.metrics[-1]["val/rewards/accuracies"]
    assert found["false"] > 0.75
    assert found["true"] < 0.7


@pytest.mark.usefixtures("pairs")
def test_from_training_to_what_is_said_of_a_run(capsys: pytest.CaptureFixture[str]):
    run = run_train(*SEES, "trainer.checkpoint_every=1", "trainer.keep_last=9")
    assert (run.path / "model" / "processor_config.json").is_file()
    samples = (run.path / "samples.jsonl").read_text()
    assert ".bmp] " in samples
    for command in (["reproduce"], ["score"], ["explain"]):
        assert cli.main([*command, str(run.path)]) == 0
    said = capsys.readouterr()
    assert "bit-identical" in said.out + said.err
    assert "2 computed again and equal" in said.out + said.err, "of the reference's log-probs on disk"
    assert ".bmp] " in (run.path / "explanations" / "tokens.html").read_text()
    assert cli.main(["inspect", *SEES, "num=1"]) == 0
    assert "⟨<image>⟩*16" in capsys.readouterr().out
    assert cli.main(["audit", *SEES]) == 0
    assert "in training too, or nearly: 0 of 5, 0 exactly" in capsys.readouterr().out, "one question, two pictures"

    shutil.copytree(run.path, "whole")
    for path in saved_checkpoints(run.path / "checkpoints")[2:]:
        path.unlink()
        manifest_path(path).unlink()
    shutil.rmtree(run.path / "model")
    write_json(run.path / "run.json", {**run.info, "status": "running"})
    assert cli.main(["train", *SEES, "trainer.checkpoint_every=1", "trainer.keep_last=9"]) == 0
    assert compare(run.path, Path("whole")) == []
    assert [entry["step"] for entry in read_run(run.path).info["resumed"]] == [2]


@pytest.mark.usefixtures("pairs")
def test_what_a_run_against_a_moving_reference_is_worth():
    """And its training rows have copies, which show the same pictures."""
    steps = ("prepare=[drop_leaks,templates]", "prepare.templates.templates=['Say: {prompt}']")
    run = run_train(*SEES, "reference=ema", "reference.decay=0.5", "optimizer.lr=0.01", *steps)
    made = {step["step"]: step["made"] for step in run.info["data_report"]["prepared"]}
    assert made == {"drop_leaks": 0, "templates": 24 - run.info["data_report"]["num_validation"]}
    assert cli.main(["evaluate", str(run.path), "num_samples=6"]) == 0
    found = json.loads((run.path / "evaluation/val.json").read_text())
    assert {"length", "kl", "accuracy"} <= set(found["figures"]) and found["figures"]["kl"]["num"] == 6


def test_another_picture_at_the_same_place_is_another_run(pairs: Path, capsys: pytest.CaptureFixture[str]):
    """Other data, so another id; of the reference only what the changed row needs is computed."""
    begun = [override for override in SEES if not override.startswith(("start.", "data.validation", "samples"))]
    whole = ("data.validation_fraction=0", "samples.num=2")  # the tokenizer is trained on the same texts in both runs
    adapted = (*begun, *whole, "start=none", "model.lora_rank=2", "reference=adapter_off", "loss=kto")
    first = run_train(*adapted)
    shutil.copy(pairs.parent / "1.bmp", pairs.parent / "0.bmp")
    capsys.readouterr()
    second = run_train(*adapted)
    assert first.info["hashes"]["data"] != second.info["hashes"]["data"]
    assert first.info["hashes"]["initial_weights"] == second.info["hashes"]["initial_weights"]
    said = capsys.readouterr()
    assert "not in the cache; computing them" in said.out + said.err
    assert "0 responses from the cache" not in said.out + said.err


def test_pictures_before_a_model_that_cannot_see(pairs: Path, capsys: pytest.CaptureFixture[str]):
    blind = ["model=tiny", *TINY, "start=none", "data=files", f"data.path={pairs}", "logger=local"]
    assert cli.main(["train", *blind]) == 2
    told = capsys.readouterr().err
    assert "pairs.jsonl row 1: the prompt shows images" in told and "model=vision_language" in told
    (pairs.parent / "3.bmp").write_bytes(b"BM")
    assert cli.main(["train", *SEES]) == 2
    told = capsys.readouterr().err
    assert "pairs.jsonl row 4, column 'images': " in told and "3.bmp" in told


def test_rows_without_pictures_train_what_reads(pairs: Path, capsys: pytest.CaptureFixture[str]):
    """Some rows without, the first steps among them; and no row with one, which is said."""
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    bare = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows]
    short = ("trainer.global_batch_size=4", "data.shuffle=false", "samples.num=0", "loss=sigmoid", "start=none")
    options = [option for option in SEES if not option.startswith(("start.", "samples.", "trainer.global"))]
    for name, written in (("some", bare[:18] + rows[18:]), ("none", bare)):
        (pairs.parent / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
        run = run_train(*options, f"data.path=pictures/{name}.jsonl", *short)
        assert run.metrics[-1]["step"] == 4
        assert ("no training row shows an image" in capsys.readouterr().err) == (name == "none")
