"""Losses of every kind, from the command line to the record; and those that cannot be had, refused before a model."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from dpo_lab.commands import cli
from tests.small import SMALL, run_train

PAIRS = [{"prompt": f"{a} + 1 =", "chosen": f" {a + 1}", "rejected": f" {a}"} for a in range(8)]


@pytest.mark.parametrize(
    ("overrides", "curve", "unit", "roles"),
    [
        (["loss=kto"], "drift", "responses", {"chosen", "rejected", "borrowed"}),
        (["loss=plackett_luce", "data.num_responses=3"], "rewards/accuracies", "lists", {"chosen", "rejected"}),
        (["loss=beta_dpo"], "threshold", "pairs", {"chosen", "rejected"}),
        (["loss=tdpo2"], "rewards/margins", "pairs", {"chosen", "rejected"}),
        (["loss=sppo_soft"], "rewards/margins", "pairs", {"chosen", "rejected"}),
        (
            ["loss=mix", "loss@loss.terms.penalty.loss=kto"],
            "gradient_share/penalty",
            "pairs",
            {"chosen", "rejected", "borrowed"},
        ),
        (["loss=modified", "loss@loss.base=ipo", "loss.confidence=true"], "rewards/margins", "pairs", None),
    ],
    ids=["kto", "plackett_luce", "beta_dpo", "tdpo2", "sppo_soft", "mix", "modified"],
)
def test_it_trains_and_is_recorded(overrides: list[str], curve: str, unit: str, roles: set[str] | None):
    run = run_train(*SMALL, "trainer.micro_batch_size=3", *overrides)
    assert run.status == "finished"
    assert f"train/{curve}" in run.metrics[-1]
    assert run.metrics[0][f"val/num_{unit}"] > 0
    assert run.metrics[-1]["epoch"] == 1.0
    if roles is not None:
        table = pyarrow.parquet.read_table(run.path / "predictions.parquet")
        assert set(table.column("role").to_pylist()) == roles


def refusal(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    assert cli.main(["train", *SMALL, *overrides]) == 2
    assert not list(Path("runs").glob("*/*/metrics.jsonl"))
    assert not Path("cache").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(("loss", "missing"), [("odpo", "scores"), ("sppo_soft", "probability")])
def test_what_the_data_lacks_is_said(loss: str, missing: str, capsys: pytest.CaptureFixture[str]):
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    small = [override for override in SMALL if not override.startswith("data.")]
    assert cli.main(["train", *small, "data=files", "data.path=pairs.jsonl", f"loss={loss}"]) == 2
    said = capsys.readouterr().err
    assert missing in said
    assert "pairs.jsonl row 1" in said
    assert not Path("cache").exists()


def test_a_divergence_from_no_distribution_is_refused(capsys: pytest.CaptureFixture[str]):
    assert "loss tdpo1 needs the divergence" in refusal(capsys, "loss=tdpo1", "reference=uniform")


def test_a_loss_that_takes_no_modifier_says_which_do(capsys: pytest.CaptureFixture[str]):
    said = refusal(capsys, "loss=modified", "loss@loss.base=kto", "loss.label_smoothing=0.1")
    assert "kto takes no modifier (label_smoothing, confidence, tail_weight)" in said
    assert "hinge, ipo" in said


def test_lists_and_single_labels_do_not_mix(capsys: pytest.CaptureFixture[str]):
    terms = ["loss@loss.terms.preference.loss=plackett_luce", "loss@loss.terms.penalty.loss=kto"]
    assert "needs lists (ranking)" in refusal(capsys, "loss=mix", *terms)
