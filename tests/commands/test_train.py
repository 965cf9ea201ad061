"""`dpo-lab train` from the command line to the run folder, on a model of a few thousand weights."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_lab.commands import cli
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.run import Run, read_run
from tests.small import SMALL, run_train, weights_of

FILES = {
    ".lock",
    "checkpoints",
    "code.diff",
    "config.yaml",
    "data_report.json",
    "fingerprints.json",
    "metrics.jsonl",
    "model",
    "overrides.yaml",
    "predictions.parquet",
    "report",
    "run.json",
    "samples.jsonl",
    "timing.jsonl",
}


def test_run_folder_is_whole_and_nothing_lies_beside_it():
    run = run_train(*SMALL, "trainer.checkpoint_every=2", "trainer.validate_every=2")
    assert run.status == "finished"
    assert {path.name for path in run.path.iterdir()} == FILES
    assert {path.name for path in Path().iterdir()} == {"runs", "cache"}
    files = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert files == ["step-00000005.ckpt", "step-00000005.json"]
    assert (run.path / "report" / "curves.png").stat().st_size > 10_000
    assert "${" not in (run.path / "config.yaml").read_text()
    assert set(run.info["hashes"]) == {"data", "tokenizer", "initial_weights", "reference"}
    assert run.info["hashes"]["reference"] == run.info["hashes"]["initial_weights"]


def test_rows_of_metrics():
    """40 pairs in windows of 8: five steps. Step 0 is measured before any update, row 1 is the loss before update 1."""
    run = run_train(*SMALL, "trainer.validate_every=2")
    assert [row["step"] for row in run.metrics] == [0, 1, 2, 3, 4, 5]
    assert [row["step"] for row in run.metrics if "val/loss" in row] == [0, 2, 4, 5]
    first = run.metrics[1]
    assert first["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["train/rewards/accuracies"] == 0.5
    assert first["examples_seen"] == 8
    assert first["sanity/initial_log_ratio"] <= 1e-3
    assert run.metrics[3]["sanity/num_tensors_without_gradient"] == 0
    assert run.metrics[0]["val/num_pairs"] == 12
    assert run.metrics[-1]["epoch"] == 1.0
    assert {"samples/kl", "samples/true_reward"} <= set(run.metrics[0]) & set(run.metrics[-1])


def test_validation_interval_runs_on_across_epochs():
    """Five windows an epoch, validation every three steps: 3, 6, 9, and the end."""
    run = run_train(*SMALL, "trainer.max_epochs=2", "trainer.validate_every=3")
    assert [row["step"] for row in run.metrics if "val/loss" in row] == [0, 3, 6, 9, 10]


@pytest.mark.parametrize(
    ("overrides", "first_loss"),
    [
        (("loss=sigmoid", "loss.label_smoothing=0.1"), math.log(2)),
        (("loss=ipo", "loss.beta=0.5"), 1.0),  # (0 - 1 / (2 * 0.5))^2
        (("loss=ipo", "loss.beta=0.25", "loss.normalization=mean"), 4.0),  # (0 - 1 / (2 * 0.25))^2
        (("loss=hinge",), 1.0),
    ],
)
def test_first_loss_is_the_formula_at_margin_zero(overrides: tuple[str, ...], first_loss: float):
    run = run_train(*SMALL, *overrides, "trainer.max_steps=1")
    assert run.metrics[1]["train/loss"] == pytest.approx(first_loss, rel=1e-5)


def test_supervised_run_has_no_reference():
    without_start = [override for override in SMALL if not override.startswith("start.")]
    run = run_train(*without_start, "loss=sft", "start=none", "optimizer.lr=1e-2")
    assert "reference" not in run.info["hashes"]
    assert not any("log_ratios" in name for row in run.metrics for name in row)
    losses = [row["train/loss"] for row in run.metrics if "train/loss" in row]
    assert losses[0] == pytest.approx(math.log(300), rel=0.05)  # a random model is uniform over 300 tokens
    assert losses[-1] < losses[0] - 0.1


def test_composite_objective_is_the_weighted_sum():
    run = run_train(*SMALL, "loss=mix", "loss.terms.penalty.weight=0.25", "trainer.max_steps=2")
    for row in run.metrics[1:]:
        expected = row["train/loss/preference"] + 0.25 * row["train/loss/penalty"]
        assert row["train/loss"] == pytest.approx(expected, rel=1e-6)


def test_uniform_reference_is_refused_nothing_and_holds_nothing():
    run = run_train(*SMALL, "reference=uniform", "trainer.max_steps=1")
    row = run.metrics[1]
    assert row["train/log_ratios/chosen"] == pytest.approx(row["train/logps/chosen"])


def test_same_seed_twice_is_bit_identical(capsys: pytest.CaptureFixture[str]):
    first = run_train(*SMALL)
    assert cli.main(["train", *SMALL]) == 0
    assert f"already finished: {first.path.absolute()}" in capsys.readouterr().out
    second = run_train(*SMALL, "fresh=true")
    assert second.path.name == f"{first.path.name}-2"
    assert (first.path / "metrics.jsonl").read_bytes() == (second.path / "metrics.jsonl").read_bytes()
    assert (first.path / "samples.jsonl").read_bytes() == (second.path / "samples.jsonl").read_bytes()
    for name, tensor in weights_of(first).items():
        assert torch.equal(tensor, weights_of(second)[name])


def test_seed_moves_the_run_and_never_the_reference():
    first, second = run_train(*SMALL), run_train(*SMALL, "seed=1")
    assert first.path.name != second.path.name
    assert first.info["hashes"] == second.info["hashes"]
    assert first.metrics[0]["val/loss"] == second.metrics[0]["val/loss"]
    assert first.metrics[2]["train/loss"] != second.metrics[2]["train/loss"]


def test_start_seed_moves_the_reference():
    first, second = run_train(*SMALL), run_train(*SMALL, "start.seed=1")
    assert first.info["hashes"]["reference"] != second.info["hashes"]["reference"]


def test_one_seed_of_its_own_moves_one_source_alone():
    """Another sampling seed: other samples, the same training."""
    first, second = run_train(*SMALL), run_train(*SMALL, "seeds.sampling=5")
    assert first.metrics[-1]["train/loss"] == second.metrics[-1]["train/loss"]
    assert samples(first) != samples(second)


def samples(run: Run) -> list[str]:
    return [json.loads(line)["response"] for line in (run.path / "samples.jsonl").read_text().splitlines()]


def test_cosmetic_change_is_the_same_run(capsys: pytest.CaptureFixture[str]):
    run_train(*SMALL)
    assert cli.main(["train", *SMALL, "trainer.micro_batch_size=2", "logger.every_n_steps=2"]) == 0
    assert "already finished" in capsys.readouterr().out


def test_start_is_found_again(capsys: pytest.CaptureFixture[str]):
    run_train(*SMALL)
    assert "start: trained" in capsys.readouterr().err
    run_train(*SMALL, "loss.beta=0.3")
    captured = capsys.readouterr().err
    assert "start: found in the cache" in captured
    assert "supervised 1/3" not in captured


def test_model_loads_in_plain_transformers():
    run = run_train(*SMALL)
    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    policy = CausalLM(model, tokenizer, dtype="float32", dropout=0.0, exported_dropout={})
    checkpoint = torch.load(next((run.path / "checkpoints").glob("*.ckpt")), weights_only=True)
    for name, tensor in policy.state_dict().items():
        assert torch.equal(checkpoint["state_dict"][f"policy.{name}"], tensor)
    assert not any("reference" in name for name in checkpoint["state_dict"])
    assert {"optimizer_states", "lr_schedulers", "generators", "reference"} <= set(checkpoint)


def test_predictions_say_what_validation_said():
    run = run_train(*SMALL)
    table = pyarrow.parquet.read_table(run.path / "predictions.parquet").to_pandas()
    last = table[table.step == 5]
    assert len(last) == 24
    chosen, rejected = (last[last.role == role].set_index("group").reward for role in ("chosen", "rejected"))
    assert float((chosen - rejected).mean()) == pytest.approx(run.metrics[-1]["val/rewards/margins"], rel=1e-6)
    ratio = last.policy_log_prob - last.reference_log_prob
    assert float(ratio[last.role == "chosen"].mean()) == pytest.approx(
        run.metrics[-1]["val/log_ratios/chosen"], abs=1e-4
    )


def test_save_none_keeps_the_record_and_no_weights():
    run = run_train(*SMALL, "trainer.save=none")
    assert {path.name for path in run.path.iterdir()} == FILES - {"checkpoints", "model"}


def test_other_start_than_the_config_can_hold_is_an_error_without_traceback(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["train", *SMALL, "data.max_length=600"]) == 2
    captured = capsys.readouterr().err
    assert "data.max_length: 600 is longer than the 512 positions" in captured
    assert "Traceback" not in captured
    assert not list(Path("runs").glob("*/*"))


def test_wandb_is_offline_and_quiet_without_a_key(capsys: pytest.CaptureFixture[str]):
    overrides = [override for override in SMALL if not override.startswith("logger")]
    run = run_train(*overrides, "trainer.max_steps=2")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(run.path.absolute())]
    assert captured.err.splitlines()[-1].startswith("W&B: kept on this machine; to send it: wandb sync ")
    assert run.info["wandb"]["mode"] == "offline"
    assert len(list((run.path / "wandb").glob("offline-run-*"))) == 1
    assert {path.name for path in Path().iterdir()} == {"runs", "cache"}


def test_steps_that_are_asked_for_are_made():
    """40 pairs in windows of 8 are five steps an epoch; max_steps alone goes on into the next."""
    assert run_train(*SMALL, "trainer.max_steps=7").metrics[-1]["step"] == 7


def test_dropout_happens_without_samples_and_never_moves_validation(capsys: pytest.CaptureFixture[str]):
    """Samples or none, the same training; with dropout the first loss is no longer that of margin 0."""
    overrides = (*SMALL, "model.dropout=0.4", "loss=ipo", "loss.beta=0.5", "trainer.max_steps=2")
    with_samples = run_train(*overrides)
    without = run_train(*(override for override in overrides if not override.startswith("samples")), "samples.num=0")
    assert without.metrics[0]["val/loss"] == pytest.approx(1.0, rel=1e-5)
    assert without.metrics[1]["train/loss"] != pytest.approx(1.0, rel=1e-3)
    assert without.metrics[2]["train/loss"] == with_samples.metrics[2]["train/loss"]


def test_a_finished_attempt_is_not_called_unfinished(capsys: pytest.CaptureFixture[str]):
    run_train(*SMALL)
    run_train(*SMALL, "fresh=true")
    assert "did not finish" not in capsys.readouterr().err


def test_uniform_reference_has_no_divergence():
    run = run_train(*SMALL, "reference=uniform", "trainer.max_steps=1")
    assert not any("samples/kl" in row for row in run.metrics)


def test_online_without_a_key_is_refused_before_anything_is_built(capsys: pytest.CaptureFixture[str]):
    overrides = [override for override in SMALL if not override.startswith("logger")]
    assert cli.main(["train", *overrides, "logger.mode=online"]) == 2
    assert "needs a W&B key" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_jobs_of_a_sweep_know_their_sweep_and_give_what_a_run_gives(monkeypatch: pytest.MonkeyPatch, root: Path):
    """Two processes side by side, then one of the runs by itself, with the threads of a job: the same numbers.

    W&B gets a run of its own for each, of one group, with the rows of metrics.jsonl.
    """
    monkeypatch.setenv("PYTHONPATH", str(root))
    mirrored = [word for word in SMALL if not word.startswith("logger")] + ["logger.mode=offline", "logger.tags=[grid]"]
    assert cli.main(["train", "-m", *mirrored, "seed=1,2", "trainer.max_steps=2"]) == 0
    (sweep,) = Path("runs/.sweeps").iterdir()
    runs = [read_run(path.parent) for path in Path("runs").glob("*/*/run.json")]
    assert [run.info["sweep"] for run in runs] == [sweep.name, sweep.name]
    # 40 + 12 pairs, computed by whichever job came first.
    assert sorted(run.info["reference_cache"]["num_computed"] for run in runs) == [0, 104]
    mirrors = [mirror_of(run) for run in runs]
    assert [mirror["run_id"] for mirror in mirrors] == [run.info["wandb"]["id"] for run in runs]
    assert len({mirror["run_id"] for mirror in mirrors}) == 2
    assert {(mirror["run_group"], *mirror["tags"]) for mirror in mirrors} == {(sweep.name, "grid")}
    (alone,) = (run for run in runs if run.config["seed"] == 1)
    again = run_train(*SMALL, "seed=1", "trainer.max_steps=2", "trainer.num_threads=1", "fresh=true")
    assert (again.path / "metrics.jsonl").read_bytes() == (alone.path / "metrics.jsonl").read_bytes()


def test_steps_by_tokens_see_every_pair_once_an_epoch():
    """Three epochs of 40 pairs in another order each; the reference is asked for nothing twice, whatever the steps."""
    run = run_train(
        *SMALL, "samples.num=0", "trainer.save=none", "trainer.max_epochs=3",
        "trainer.global_batch_tokens=300",
    )  # fmt: skip
    rows = [row for row in run.metrics if "train/loss" in row]
    ends = [row["examples_seen"] for row in rows]
    assert [seen for seen in ends if seen % 40 == 0] == [40, 80, 120]
    assert rows[-1]["epoch"] == 3
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert len(set(sizes)) > 1 and max(sizes) <= 8
    assert run.info["reference_cache"]["num_computed"] == 104


def mirror_of(run: Run) -> dict[str, Any]:
    """What W&B's own reader says of the run; its history has to be that of the run folder."""
    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [json.loads(line) for line in text.splitlines()]
    rows = [record["history"]["item"] for record in found if record["type"] == "history"]
    logged = [{name: value for name, value in row.items() if not name.startswith(("_", "samples "))} for row in rows]
    assert [row for row in logged if "epoch" in row] == run.metrics
    (told,) = (record["run"] for record in found if record["type"] == "run")
    return told
