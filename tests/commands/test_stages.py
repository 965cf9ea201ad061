"""Two stages in two runs: demonstrations are imitated, then the pairs of another file are preferred."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.small import SMALL, run_train

MODEL = SMALL[:4]
QUICK = (
    "optimizer.lr=0.01",
    "optimizer.warmup_steps=0",
    "trainer.max_steps=4",
    "trainer.global_batch_size=8",
    "samples.num=0",
    "start=none",
    "logger=local",
)


def write(name: str, rows: Sequence[Mapping[str, object]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.path={name}"


def test_demonstrations_first_then_pairs(capsys: pytest.CaptureFixture[str]):
    """Of 40 demonstrations an eighth is expected for validation, and 5 are drawn. The 3 that stand beside the pairs
    give no item, and before the first update policy and reference are both what the first stage has left.
    """
    chats = [
        {"messages": [{"role": "user", "content": f"Is {n} even?"}, {"role": "assistant", "content": f"Yes, {n} is."}]}
        for n in range(40)
    ]
    pairs = [{"prompt": f"Is {n} odd?", "chosen": f"No {n}.", "rejected": f"Yes {n}."} for n in range(24)]
    beside = [{"prompt": f"Is {n} odd?", "response": "No."} for n in range(3)]
    first = run_train(
        "data=files", write("a.jsonl", chats), "data.validation_fraction=0.125", "loss=sft", *MODEL, *QUICK
    )
    last = first.metrics[-1]
    assert last["val/num_responses"] == 5
    assert last["val/loss"] < first.metrics[0]["val/loss"]
    capsys.readouterr()
    second = run_train(
        *("model=causal_lm", f"model.path={first.path / 'model'}", "data=files", write("b.jsonl", [*pairs, *beside])),
        *("data.validation_fraction=0.25", "loss=sigmoid", *QUICK),
    )
    assert "have a response to imitate and no judgement: left out" in capsys.readouterr().err
    assert second.metrics[0]["val/rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert second.metrics[-1]["train/rewards/margins"] != 0
