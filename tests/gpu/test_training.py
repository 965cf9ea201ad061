"""Whole runs with `trainer=gpu`, through the command: they repeat their bits, and agree with each other and a CPU."""

from typing import Any

import pyarrow.parquet
import pytest
import torch

from dpo_lab.commands import cli
from dpo_lab.module import PreferenceModule
from dpo_lab.run import Run
from dpo_lab.run.read import read_rows
from tests.small import SMALL, run_train
from tests.torture.torture import compare

GPU = (*SMALL, "model.hidden_size=64", "trainer=gpu", "data.max_length=256", "trainer.validate_every=2")
FLOAT32 = "trainer.precision=32-true"
KINDS: dict[str, tuple[str, ...]] = {
    "bfloat16": (),
    "float32": (FLOAT32,),
    "packed": ("model.attention=packed",),
    "padded": ("model.attention=padded",),
    "padded float32": ("model.attention=padded", FLOAT32),
    "dropout": ("model.dropout=0.2",),
    "micro-batches of a loss on the whole batch": ("loss=bco", "trainer.micro_batch_size=3", "model.dropout=0.2"),
    "live": ("reference.cache=off",),
    "moving": ("reference=ema",),
    "adapter": ("model.lora_rank=4", "reference=adapter_off"),
    "layers computed twice": ("model.gradient_checkpointing=true",),
    "whole distributions": ("loss=tdpo2",),
    "two terms": ("loss=mix", "loss@loss.terms.penalty.loss=kto"),
    "random subsets": ("loss=sampo",),
    "bfloat16 weights": ("model.dtype=bfloat16", "trainer.precision=32-true", "optimizer.lr=1e-3"),
    "encoder-decoder": ("model=small_seq2seq", "model.hidden_size=64"),
    "items": (
        *("model=small_recommender", "model.hidden_size=32", "model.num_layers=1", "data=playlists", "loss=s_dpo"),
        *("data.num_listeners=24", "data.length=8", "data.num_genres=3", "data.num_places=2"),
    ),
}


def train(*overrides: str) -> Run:
    """A run of `GPU`; of another model or other data, what is said of those stands for itself."""
    groups = [word for word in overrides if word.partition("=")[0] in ("model", "data")]
    kept = [word for word in GPU if not any(word.startswith(f"{group.partition('=')[0]}.") for group in groups)]
    return run_train(*kept, *overrides)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_repeats_its_bits(kind: str):
    first = train(*KINDS[kind])
    again = train(*KINDS[kind], "fresh=true")
    assert first.status == "finished"
    assert compare(again.path, first.path) == []
    assert first.info["device"] == torch.cuda.get_device_name()
    assert all(row["peak_device_memory_bytes"] > 0 for row in read_rows(first.path / "timing.jsonl"))


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_reproduce_finds_the_same_bits(precision: str, capsys: pytest.CaptureFixture[str]):
    run = train(f"trainer.precision={precision}")
    capsys.readouterr()
    assert cli.main(["reproduce", str(run.path)]) == 0
    assert "bit-identical" in capsys.readouterr().out


def losses(run: Run, curve: str = "train/loss") -> list[float]:
    return [row[curve] for row in run.metrics if curve in row]


@pytest.mark.parametrize(("precision", "nats"), [("bf16-mixed", 2e-2), ("32-true", 1e-4)])
def test_every_way_comes_to_the_same_losses(precision: str, nats: float):
    """Attention by group and row by row, the reference from the cache and live, layers computed twice."""
    one, *others = (
        losses(train(f"trainer.precision={precision}", *knobs))
        for knobs in (
            ("model.attention=shared",),
            ("model.attention=packed",),
            ("model.attention=padded",),
            ("model.attention=shared", "reference.cache=off", "fresh=true"),
            ("model.gradient_checkpointing=true",),
        )
    )
    for other in others:
        assert other == pytest.approx(one, abs=nats)


@pytest.mark.parametrize(("precision", "nats"), [("bf16-mixed", 5e-2), ("32-true", 1e-3)])
def test_cached_log_probs_are_those_of_the_live_reference(precision: str, nats: float):
    """To what docs/reference_cache.md says: nats of a response, of bfloat16 times the root of its length."""
    rows = []
    for how in (("reference.cache=auto",), ("reference.cache=off", "fresh=true")):
        run = train(f"trainer.precision={precision}", *how)
        table = pyarrow.parquet.read_table(run.path / "predictions.parquet").to_pylist()
        rows.append({(row["step"], row["key"]): row for row in table})
    cached, live = rows
    assert cached.keys() == live.keys()
    for key, row in cached.items():
        width = nats * (row["length"] ** 0.5 if precision == "bf16-mixed" else 1)
        assert row["reference_log_prob"] == pytest.approx(live[key]["reference_log_prob"], abs=width)


def test_a_gpu_comes_to_what_a_cpu_comes_to():
    runs: list[Any] = [losses(train(FLOAT32, f"trainer.accelerator={name}")) for name in ("gpu", "cpu")]
    assert runs[0] == pytest.approx(runs[1], abs=1e-4)


def test_what_cannot_repeat_itself_ends_the_run_unless_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A sum of floats along the way (cumsum) has no fixed order on a GPU."""
    original = PreferenceModule._count_and_add

    def unordered(self: Any, *given: Any, **named: Any) -> Any:
        values = torch.arange(4.0, device=self.device).cumsum(0)
        return original(self, *given, **named) + 0 * values.sum()

    monkeypatch.setattr(PreferenceModule, "_count_and_add", unordered)
    assert cli.main(["train", *GPU]) == 1
    assert "does not have a deterministic implementation" in capsys.readouterr().err
    assert train("trainer.deterministic=false").status == "finished"
