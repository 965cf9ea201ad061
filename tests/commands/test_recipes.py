"""Recipes for generation and recommendation: each composes in every way that it names, and runs on data drawn here."""

import json
from pathlib import Path

import pytest

from dpo_lab.config import find_faults
from dpo_lab.config.overrides import review
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR
from tests.small import run_train

PRETRAINED = {
    "dialogue": ("model=causal_lm", "data.path=pairs.jsonl"),
    "financial_qa": ("model=causal_lm", "data.path=pairs.jsonl"),
    "financial_report": ("model=causal_lm", "data.path=pairs.jsonl"),
    "extractive_qa": ("model=extractive_qa", "data.path=pairs.json"),
    "image_text": ("model=vision_language", "data.path=pairs.jsonl"),
    "news_classification": ("model=classifier", "data.path=news.txt"),
    "recommendation": ("model=causal_lm", "data.path=ratings.csv", "data.text=names", "data.names_path=movies.csv"),
    "seq2seq_summarisation": ("model=seq2seq", "data.path=pairs.jsonl"),
}
DRAWN = {
    "dialogue": ("data=dialogues", "samples/true_reward"),
    "financial_qa": ("data=balances", "samples/true_reward"),
    "financial_report": ("data=quarters", "samples/true_reward"),
    "recommendation": ("data=playlists", "val/ndcg@10"),
    "seq2seq_summarisation": ("data=articles", "samples/true_reward"),
}
MODEL = ("model.hidden_size=16", "model.num_layers=1", "model.num_heads=2")
STEPS = ("start.max_steps=2", "start.global_batch_size=8", "trainer.max_steps=2", "trainer.global_batch_size=8")
FEW = ("samples.num=4", "samples.max_new_tokens=4", "logger=local")


def small_data(recipe: str) -> tuple[str, ...]:
    if recipe == "recommendation":
        return ("data.num_listeners=24", "data.length=8", "data.num_genres=3")
    return ("data.num_pairs=24", "data.num_validation_pairs=8", "data.num_demonstrations=24")


@pytest.mark.parametrize("stage", [(), ("loss=sft",)], ids=["preference", "supervised"])
@pytest.mark.parametrize("recipe", PRETRAINED)
def test_a_recipe_takes_a_pretrained_model(recipe: str, stage: tuple[str, ...]):
    """As its first lines say; nothing of the recipe is for a small model, or for one loss, alone."""
    for file in ("pairs.jsonl", "pairs.json", "news.txt", "ratings.csv", "movies.csv"):
        Path(file).touch()
    given = [f"experiment={recipe}", "start=none", "model.path=owner/name", *PRETRAINED[recipe], *stage]
    reviewed = review(given, Source(str(CONF_DIR), "train"), multirun=False)
    assert reviewed.faults == []
    assert [fault for config in reviewed.configs for fault in find_faults(config)] == []


@pytest.mark.parametrize("recipe", DRAWN)
def test_a_recipe_runs_on_drawn_data(recipe: str):
    data, curve = DRAWN[recipe]
    run = run_train(f"experiment={recipe}", data, *small_data(recipe), *MODEL, *STEPS, *FEW)
    assert run.path.parent.name == recipe
    assert {"train/rewards/margins", "val/rewards/accuracies", curve} <= run.metrics[-1].keys()
    assert {curve} <= run.metrics[0].keys(), "what it was before"


def test_a_recipe_of_two_runs_on_rows_of_a_file():
    """The supervised stage as a run of its own, then preference with the same file and the model of that run."""
    rows = [
        {
            "conversations": [{"from": "human", "value": f"What is {a} plus {b}?"}],
            "chosen": {"from": "gpt", "value": str(a + b)},
            "rejected": {"from": "gpt", "value": str(a - b)},
        }
        for a in range(6)
        for b in range(1, 6)
    ]
    Path("chats.json").write_text(json.dumps(rows))
    given = ("experiment=dialogue", "data.path=chats.json", "data.validation_fraction=0.3", *STEPS[2:], *FEW)
    first = run_train(*given, *MODEL, "loss=sft", "start=none", "optimizer.lr=0.01")
    second = run_train(*given, "model=causal_lm", f"model.path={first.path / 'model'}", "loss.beta=0.2")
    assert second.metrics[0]["val/logps/chosen"] == pytest.approx(first.metrics[-1]["val/logps/chosen"], rel=1e-4)
    assert second.metrics[0]["val/rewards/margins"] == pytest.approx(0, abs=1e-5)
