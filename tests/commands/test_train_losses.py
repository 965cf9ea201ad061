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
    assert "kto takes no modifier (label_smoothing, confidence, alpha)" in said
    assert "hinge, ipo" in said


def test_lists_and_single_labels_do_not_mix(capsys: pytest.CaptureFixture[str]):
    terms = ["loss@loss.terms.preference.loss=plackett_luce", "loss@loss.terms.penalty.loss=kto"]
    assert "needs lists (ranking)" in refusal(capsys, "loss=mix", *terms)


def write_rows(name: str, rows: list[dict[str, object]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def on_files() -> list[str]:
    small = [override for override in SMALL if not override.startswith(("data.", "start."))]
    return [*small, "start=none", "data=files", "data.path=rows.jsonl"]


def test_what_the_loss_leaves_out_is_said_and_recorded(on_files: list[str], capsys: pytest.CaptureFixture[str]):
    lists = [{"prompt": f"{n} +", "responses": [" 1", " 2", " 3"], "scores": [3, n % 2, 0]} for n in range(30)]
    write_rows("rows.jsonl", lists)
    run = run_train(*on_files, "loss=plackett_luce", "data.validation_fraction=0.3")
    tied = [line for line in json.loads((run.path / "data_report.json").read_text())["left_out"] if "training" in line]
    assert len(tied) == 1 and "tied scores and no complete order" in tied[0]
    assert tied[0] in capsys.readouterr().err


def test_steps_with_one_kind_of_label_compare_nothing(on_files: list[str]):
    """Sorted by label, two at a time: every step of `aot_unpaired` has one kind, in training and validation."""
    rows = [{"prompt": f"{n} +", "response": f" {n}", "label": n < 4} for n in range(8)]
    write_rows("rows.jsonl", rows)
    overrides = ["data.validation_path=rows.jsonl", "data.shuffle=false", "trainer.global_batch_size=2"]
    run = run_train(*on_files, *overrides, "loss=aot_unpaired", "trainer.zero_gradient_ok=['*']")
    assert run.status == "finished"
    assert {row["train/loss"] for row in run.metrics if "train/loss" in row} == {0.0}


def test_judgements_from_a_csv(on_files: list[str]):
    """Where every cell is text."""
    header = "prompt,chosen,rejected,chosen_score,rejected_score,probability"
    rows = [f"{n} +, {n}, {n + 1},{n + 1}.5,0,0.75" for n in range(8)]
    Path("rows.csv").write_text("\n".join([header, *rows]))
    for loss in ("odpo", "sppo_soft"):
        assert run_train(*on_files[:-1], "data.path=rows.csv", f"loss={loss}").status == "finished"
    judged = [f"{n} +, {n},{word}" for n, word in enumerate(["true", "false", "1", "0"] * 3)]
    Path("judged.csv").write_text("\n".join(["prompt,response,label", *judged]))
    assert run_train(*on_files[:-1], "data.path=judged.csv", "loss=kto").status == "finished"


def test_random_subsets_follow_the_seed_and_the_step():
    """The same seed repeats a run of `sampo` to the bit; another seed of its noise alone gives other numbers."""

    def losses(*overrides: str) -> list[float]:
        run = run_train(*SMALL, "loss=sampo", "optimizer.lr=1e-2", "fresh=true", *overrides)
        return [row["train/loss"] for row in run.metrics if "train/loss" in row]

    first = losses()
    assert losses() == first
    assert losses("seeds.dropout=5")[1:] != first[1:]


def test_a_loss_that_cannot_be_computed_is_refused(capsys: pytest.CaptureFixture[str]):
    assert "loss ipo: its arguments make a loss that is no number" in refusal(capsys, "loss=ipo", "loss.beta=1e-320")
