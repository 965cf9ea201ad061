"""Whole runs of policies that are no causal language model, through the command."""

from pathlib import Path

import pytest

from tests.small import SMALL, run_train

QUICK = ("start.max_steps=3", "start.global_batch_size=8", "trainer.global_batch_size=8", "logger=local")
ITEMS = ("model=small_recommender", "model.hidden_size=16", "model.num_layers=1", "data=playlists")
LISTENERS = ("data.num_listeners=24", "data.length=8", "data.num_genres=3", "data.num_places=2")


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=sigmoid", "reference=ema"),
        ("loss=kto", "model.lora_rank=2", "reference=adapter_off"),
        ("loss=simpo", "model.dropout=0.1", "reference=uniform"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_encoder_decoder(overrides: tuple[str, ...]):
    run = run_train("model=small_seq2seq", *overrides, *SMALL)
    unit = "responses" if "loss=kto" in overrides else "pairs"
    assert run.metrics[-1][f"val/num_{unit}"] == (24 if unit == "responses" else 12)
    assert (run.path / "model" / "model.safetensors").is_file()


def test_a_recommender_is_measured_in_the_whole_catalogue():
    run = run_train(*ITEMS, *LISTENERS, "loss=s_dpo", "samples.num=2", "trainer.validate_every=3", *QUICK)
    measured = [row for row in run.metrics if "val/ndcg@10" in row]
    assert [row["step"] for row in measured] == [0, 3, 6]
    last = run.metrics[-1]
    for name in ("ndcg@10", "hit@10", "mrr"):
        assert 0 <= last[f"test/popularity/{name}"] <= 1
        assert 0 < last[f"test/{name}"] <= 1 and last[f"test/{name}_ci95"] > 0
    assert {row["val/popularity/mrr"] for row in measured} == {last["val/popularity/mrr"]}, "it does not learn"


def test_a_second_stage_begins_where_the_first_ended():
    first = run_train(
        *ITEMS, *LISTENERS, "loss=sft", "data.rows=sequences", "start=none", "optimizer.lr=0.01", *QUICK[2:]
    )
    second = run_train(
        *("model=recommender", f"model.path={first.path / 'model'}", "data=playlists", *LISTENERS, "loss=sigmoid"),
        *("samples.num=0", "trainer.save=best", "trainer.best_metric=val/ndcg@10", "trainer.best_mode=max"),
        *QUICK[2:],
    )
    assert second.metrics[0]["val/ndcg@10"] == pytest.approx(first.metrics[-1]["val/ndcg@10"], abs=1e-6)
    assert second.metrics[0]["val/rewards/margins"] == pytest.approx(0, abs=1e-5)


def test_a_language_model_names_items():
    rows = [f"{user},{(user + step) % 8 + 1},{step}" for user in range(6) for step in range(6)]
    Path("clicks.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    Path("names.csv").write_text("\n".join(["item,name", *(f"{item},Film {item}" for item in range(1, 9))]) + "\n")
    run = run_train(
        *("data=interactions", "data.path=clicks.csv", "data.text=names", "data.names_path=names.csv"),
        *("data.min_item_users=1", "data.num_negatives=1", "loss=plackett_luce", *SMALL[:4], *QUICK),
        *("samples.num=2", "samples.max_new_tokens=4"),
    )
    assert run.metrics[-1]["val/num_lists"] == 6
    assert not any("ndcg" in name for name in run.metrics[-1])
