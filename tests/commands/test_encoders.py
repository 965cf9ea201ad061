"""Classifiers and span readers from the command line to the run folder, on models of a few thousand weights."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.commands import cli
from dpo_lab.run import Run
from tests.small import run_train, weights_of

QUICK = ("trainer.max_steps=3", "trainer.global_batch_size=8", "samples.num=4", "logger=local", "optimizer.lr=1e-3")
SMALL = ("model.hidden_size=16", "model.num_layers=1", "model.num_heads=2")
START = ("start.max_steps=4", "start.global_batch_size=8")
WORDS = {"sport": "ball goal team match", "money": "bank share price stock", "games": "level boss score quest"}


@pytest.fixture
def labelled() -> tuple[str, ...]:
    """120 texts of three classes, 40 of them to validate on."""
    generator = random.Random(0)
    rows = []
    for number in range(120):
        name = list(WORDS)[number % 3]
        words = generator.choices([*WORDS[name].split(), "the", "a", "old"], k=5)
        rows.append(json.dumps({"text": f"{' '.join(words)} {number}", "label": name}) + "\n")
    Path("train.jsonl").write_text("".join(rows[:80]))
    Path("test.jsonl").write_text("".join(rows[80:]))
    return ("data=labelled", "data.path=train.jsonl", "data.validation_path=test.jsonl", *QUICK)


@pytest.fixture
def asked() -> tuple[str, ...]:
    """30 questions about 10 passages, in SQuAD's format."""
    paragraphs = []
    for number in range(10):
        context = f"The bank sold {number} shares in March. The coach of the team left in May."
        asked = {"The bank": "who sold ?", "May": "when did he leave ?", f"{number} shares": "what was sold ?"}
        spans = [(question, {"text": text, "answer_start": context.index(text)}) for text, question in asked.items()]
        paragraphs.append({"context": context, "qas": [{"question": q, "answers": [span]} for q, span in spans]})
    Path("squad.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    windows = ("model.window=32", "model.stride=8")
    return ("data=questions", "data.path=squad.json", "data.validation_fraction=0.3", *windows, *QUICK)


def last_row(run: Run) -> dict[str, float]:
    return run.metrics[-1]


def first(run: Run, name: str) -> float:
    """The first value of a curve."""
    return run.curve(name)[1][0]


def test_classes_supervised_then_mined_then_preferred(labelled: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    """Masked tokens, then the supervised stage as a run of its own, then hard negatives against its model."""
    supervised = run_train(*labelled, "model=small_classifier", *SMALL, "start=masked_tokens", *START, "loss=sft")
    row = last_row(supervised)
    assert {"val/accuracy", "val/macro_f1", "val/log_loss", "val/calibration_error"} <= row.keys()
    assert "with a head that was drawn" in capsys.readouterr().err
    assert cli.main(["mine", str(supervised.path), "--out", "confusion.json"]) == 0
    mined = json.loads(Path("confusion.json").read_text())
    assert mined["classes"] == ["games", "money", "sport"]
    assert mined["provenance"]["run"] == supervised.info["id"] and mined["provenance"]["texts"] == 80

    hard = ("data.preference=confusion_weighted", "data.confusion=confusion.json", "data.num_rejected=2")
    model = ("model=classifier", f"model.path={supervised.path}/model")
    preferred = run_train(*labelled, *hard, *model, "samples.num=40")
    report = json.loads((preferred.path / "data_report.json").read_text())
    assert f"run {supervised.info['id']}" in report["made_with"][0]
    assert first(preferred, "sanity/initial_log_ratio") < 1e-5
    assert first(preferred, "val/accuracy") == row["val/accuracy"]  # before its first update it is that model
    assert weights_of(preferred).keys() == weights_of(supervised).keys()
    samples = [json.loads(line) for line in (preferred.path / "samples.jsonl").read_text().splitlines()]
    assert {sample["response"] for sample in samples} <= set(WORDS)
    assert all(sample["length"] == 1 for sample in samples)


def test_spans_supervised_then_mined_then_preferred(asked: tuple[str, ...]):
    supervised = run_train(*asked, "model=small_extractive_qa", *SMALL, "start=none", "loss=sft")
    assert {"val/exact_match", "val/token_f1"} <= last_row(supervised).keys()
    assert cli.main(["mine", str(supervised.path), "--out", "mined.json", "--num", "2"]) == 0
    mined = json.loads(Path("mined.json").read_text())
    assert len(mined["rows"]) == 30
    assert all(1 <= len(row["rejected"]) <= 2 for row in mined["rows"])
    for row in mined["rows"]:
        for span in row["rejected"]:
            assert row["context"][span["answer_start"] :].startswith(span["text"])
            assert 0 <= span["token_f1"] < 1
    again = [word.replace("squad.json", "mined.json") for word in asked]
    preferred = run_train(*again, "model=extractive_qa", f"model.path={supervised.path}/model")
    assert first(preferred, "sanity/initial_log_ratio") < 1e-5
    assert first(preferred, "train/lengths/chosen") == 2


@pytest.mark.parametrize("loss", ["kto", "plackett_luce", "tdpo2", "mix"])
def test_losses_of_every_kind_train_a_classifier(loss: str, labelled: tuple[str, ...]):
    """On single labels and lists, whole distributions, and together with imitation."""
    run = run_train(*labelled, "model=small_classifier", *SMALL, *START, f"loss={loss}", "samples.num=0")
    assert math.isfinite(last_row(run)["train/loss"])


@pytest.mark.parametrize("loss", ["s_dpo", "odpo"])
def test_losses_of_every_kind_train_a_span_reader(loss: str, asked: tuple[str, ...]):
    """On lists, and with the margin that the token F1 of a wrong span asks for."""
    random_spans = ("data.rejected=random", "data.num_rejected=2", "samples.num=0")
    run = run_train(*asked, *random_spans, "model=small_extractive_qa", *SMALL, *START, f"loss={loss}")
    assert math.isfinite(last_row(run)["train/loss"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=ld_dpo"], "loss ld_dpo acts on differences of length, and with model=small_classifier every response"),
        (["start=none", "model.lora_rank=2", "reference=adapter_off"], "the head of this model was drawn"),
        (["data=reviews", "data.num_pairs=20"], "a classifier needs texts with classes, and this data has none"),
    ],
)
def test_what_makes_no_sense_for_classes_is_refused_by_name(
    overrides: list[str], message: str, labelled: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    given = [*labelled, "model=small_classifier", *SMALL, *overrides]
    if "data=reviews" in overrides:
        given = [word for word in given if not word.startswith(("data=labelled", "data.path", "data.validation"))]
    assert cli.main(["train", *given]) == 2
    assert message in capsys.readouterr().err


def test_what_makes_no_sense_for_spans_is_refused_by_name(asked: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    given = [*asked, "data.rejected=random", "model=small_extractive_qa", *SMALL]
    assert cli.main(["train", *given, "loss=kto"]) == 2
    assert "loss kto needs drift, which model=small_extractive_qa cannot give: a span of one" in capsys.readouterr().err
    assert cli.main(["train", "start=masked_tokens", "data.num_pairs=20", *QUICK]) == 2
    assert "only an encoder guesses hidden tokens" in capsys.readouterr().err


@pytest.mark.parametrize("reference", ["adapter_off", "ema"])
def test_references_beside_a_frozen_copy(reference: str, labelled: tuple[str, ...]):
    """An adapter stands on a head that the start has trained."""
    lora = ("model.lora_rank=2",) if reference == "adapter_off" else ()
    run = run_train(*labelled, "model=small_classifier", *SMALL, *START, *lora, f"reference={reference}")
    assert abs(first(run, "train/log_ratios/chosen")) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--out", "a.json"], "neither the folder of a run nor the id of one"),
        (["RUN", "--out", "a.txt"], "does not end in .json"),
        (["RUN", "--out", "a.json", "--num", "0"], "--num: must be at least 1"),
        (["RUN", "--out", "a.json", "--below", "2"], "--below: must be in (0, 1]"),
        (["RUN", "--out", "a.json", "seed=1"], "only data.KEY=VALUE can be another"),
        (["RUN", "--out", "a.json", "data.rows=1"], "the data of this run has no such knob"),
    ],
)
def test_mining_says_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    run = tmp_path / "RUN"
    (run / "model").mkdir(parents=True)
    config: dict[str, Any] = {"data": {"path": "a.jsonl"}, "model": {}, "trainer": {}}
    (run / "config.yaml").write_text(json.dumps(config))
    (run / "run.json").write_text(json.dumps({"id": "abc", "status": "finished"}))
    assert cli.main(["mine", *[str(run) if word == "RUN" else word for word in arguments]]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "data", "curve"),
    [("news_classification", "headlines", "val/macro_f1"), ("extractive_qa", "facts", "val/token_f1")],
)
def test_recipes_run_on_generated_data(recipe: str, data: str, curve: str):
    small = {
        "headlines": ("data.num_train=60", "data.num_validation=20", "start.max_steps=3"),
        "facts": ("data.num_passages=8",),
    }
    steps = ("trainer.max_steps=2", "trainer.max_epochs=null", "trainer.global_batch_size=8")
    run = run_train(
        f"experiment={recipe}", f"data={data}", *small[data], *SMALL, *steps, "logger=local", "samples.num=2"
    )
    assert 0 <= last_row(run)[curve] <= 1


def test_what_is_said_of_texts_is_not_said_of_classes_and_items(capsys: pytest.CaptureFixture[str]):
    """How a response is tokenised, and which token ends it; and generated rows, whose wrong classes follow a rule."""
    model = ("model=small_classifier", "model.hidden_size=16", "model.num_heads=2", "data=headlines")
    rows = ("data.num_train=12", "data.num_validation=4")
    assert cli.main(["inspect", *model, *rows]) == 0
    shown = capsys.readouterr().out
    assert "chosen: 1 tokens, 1 in the loss" in shown and "special token" not in shown
    items = ("model=small_recommender", "data=playlists", "data.num_listeners=12", "data.length=6")
    for data in ((*model, *rows), items):
        assert cli.main(["audit", *data, "--out", "audit"]) == 0
        assert "apart" not in capsys.readouterr().out
    run = run_train(*model, *rows, "start=none", "trainer.max_steps=1", "samples.num=0", "logger=local")
    assert cli.main(["mine", str(run.path), "--out", "confusion.json"]) == 2
    assert "data=headlines is generated here and takes nothing mined; mine a run of data=labelled" in (
        capsys.readouterr().err
    )
