"""A model in 8 or 4 bits below an adapter, trained on the device."""

import json
from pathlib import Path

import pytest

from tests.gpu.wide import write_wide_model
from tests.small import run_train
from tests.torture.torture import compare


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_it_trains_and_repeats_its_bits(quantization: str, tmp_path: Path):
    folder = write_wide_model(tmp_path / "model", "llama")
    rows = [{"prompt": f"{n} + 2 =", "chosen": f" {n + 2}", "rejected": f" {n + 3}"} for n in range(40)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    knobs = (
        *("model=causal_lm", f"model.path={folder}", "model.lora_rank=4", f"model.quantization={quantization}"),
        *("reference=adapter_off", "data=files", "data.path=pairs.jsonl", "data.validation_fraction=0.2"),
        *("trainer=gpu", "trainer.global_batch_size=8", "optimizer.lr=1e-2", "samples.num=2"),
        *("samples.max_new_tokens=4", "logger=local"),
    )
    first, again = run_train(*knobs), run_train(*knobs, "fresh=true")
    losses = [row["train/loss"] for row in first.metrics if "train/loss" in row]
    assert compare(again.path, first.path) == []
    assert losses[0] == pytest.approx(0.6931, abs=1e-2), "its adapter off is the reference"
    assert losses[-1] != losses[0]
