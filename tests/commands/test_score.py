"""`dpo-lab score`: the numbers of validation to the bit, those of any other file row by row, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpo_lab.commands import cli
from dpo_lab.commands import train as command
from dpo_lab.run import read_run
from dpo_lab.run.read import read_info
from tests.torture.processes import config

KINDS = {
    "best": ("trainer.save=best", "trainer.validate_every=2", "optimizer.lr=0.05", "optimizer.warmup_steps=0"),
    "states": ("loss=bco", "reference=ema", "reference.decay=0.5", "trainer.micro_batch_size=3"),
    "lora": ("model.lora_rank=2", "reference=adapter_off"),
}
NUMBERS = ("key", "group", "role", "policy_log_prob", "reference_log_prob", "length", "reward")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A finished run of five steps of each kind."""
    folder = tmp_path_factory.mktemp("score")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        found = {}
        for kind, knobs in KINDS.items():
            places = (f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", f"name={kind}")
            quick = ("trainer.max_steps=5", "trainer.validate_every=null", "samples.num=0")
            assert command.train(config(*quick, *knobs, *places), []) == 0
            (found[kind],) = (folder / "runs" / kind).iterdir()
        yield found


def score(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Rows of the file, what stands beside it, and what was printed."""
    capsys.readouterr()
    assert cli.main(["score", *map(str, words)]) == 0
    printed = capsys.readouterr().out
    out = Path(printed.splitlines()[-1])
    return pq.read_table(out).to_pylist(), json.loads(out.with_suffix(".json").read_text()), printed


def predictions(run: Path, step: int, split: str = "val") -> list[dict[str, Any]]:
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    return [row for row in rows if (row["step"], row["split"]) == (step, split)]


def numbers(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in NUMBERS) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_held_out_scores_as_it_did_at_the_end_to_the_bit(kind: str, runs: dict[str, Path], capsys):
    """Whatever a loss or a reference had become by then, and with micro-batches as they were."""
    rows, record, printed = score(capsys, runs[kind], "weights=last")
    if kind == "lora":
        assert numbers(score(capsys, runs[kind], "splits=test")[0]) == numbers(predictions(runs[kind], 5, "test"))
    assert numbers(rows) == numbers(predictions(runs[kind], 5)) and {row["split"] for row in rows} == {"val"}
    last = read_run(runs[kind]).metrics[-1]
    assert record["splits"]["val"]["rewards/accuracies"] == last["val/rewards/accuracies"]
    assert printed.startswith(f"val: accuracy {last['val/rewards/accuracies']:.3f} on 8 pairs, margin ")
    assert all(row["source"].startswith("reviews validation pair") for row in rows if row["role"] != "borrowed")


def test_the_best_weights_are_those_of_the_model(runs: dict[str, Path], capsys):
    run = runs["best"]
    best = read_info(run)["best"]["step"]
    rows, record, _ = score(capsys, run)
    assert record["step"] == best and numbers(rows) == numbers(predictions(run, best))
    assert record["weights"].endswith(f"step-{best:08d}.ckpt")
    shutil.copytree(run, "copy")
    shutil.rmtree("copy/checkpoints")
    again, record, _ = score(capsys, "copy", f"cache_dir={run.parents[2]}/cache")
    assert record["weights"] == "copy/model" and numbers(again) == numbers(rows)
    assert numbers(score(capsys, run, f"weights={best}")[0]) == numbers(rows)


def write_pairs() -> None:
    """Two pairs that the runs have not seen."""
    rows = [
        {"prompt": "Review of a film:", "chosen": " The plot was great.", "rejected": " The plot was dull."},
        {"prompt": "Review of a book:", "chosen": " A great hero.", "rejected": " A dull hero."},
    ]
    Path("new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_row_of_another_file(runs: dict[str, Path], capsys):
    write_pairs()
    rows, record, printed = score(capsys, runs["lora"], "data=files", "data.path=new.jsonl", "out=a/b.parquet")
    assert printed.splitlines()[-1] == "a/b.parquet" and printed.startswith("train: accuracy ")
    assert [(row["source"], row["role"]) for row in rows] == [
        (f"new.jsonl row {number}", role) for number in (1, 2) for role in ("chosen", "rejected")
    ]
    for better, worse in (rows[:2], rows[2:]):
        assert better["margin"] == worse["margin"] == better["reward"] - worse["reward"]
        assert better["policy_margin"] == better["policy_log_prob"] - worse["policy_log_prob"]
        assert better["reference_margin"] == better["reference_log_prob"] - worse["reference_log_prob"]
        shift = better["policy_log_prob"] - better["reference_log_prob"]
        assert better["reward"] == pytest.approx(0.1 * shift, abs=1e-4)
    assert record["run"] == str(runs["lora"].absolute()) and record["hashes"]["data"] not in str(
        read_info(runs["lora"])
    )


def test_without_a_run_and_by_the_reward_of_another_loss(runs: dict[str, Path], capsys):
    """The exported model beside itself gives the same log-probs, and margins of zero."""
    write_pairs()
    run = runs["best"]
    of_run, _, _ = score(capsys, run, "data=files", "data.path=new.jsonl", "loss=simpo")
    assert all(row["reference_log_prob"] is None for row in of_run)
    words = ("model=causal_lm", f"model.path={run}/model", "data=files", "data.path=new.jsonl")
    rows, record, printed = score(capsys, *words)
    assert [row["policy_log_prob"] for row in rows] == pytest.approx([row["policy_log_prob"] for row in of_run])
    assert [row["margin"] for row in rows] == pytest.approx([0.0] * 4, abs=1e-4)
    assert record["run"] is None and printed.splitlines()[-1].startswith("runs/.reports/scores-new-")


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("lora", ["weights=best"], "kept no best checkpoint"),
        ("lora", ["weights=newest"], "must be model, last, best or the step of a checkpoint"),
        ("lora", ["weights=77"], "cannot be used"),
        ("lora", ["splits=val,tset"], "there is no tset; the data has train, val, test"),
        ("lora", ["other"], "other: not an override"),
        ("lora", ["model.lora_rank=3"], "of a model of another shape"),
        ("lora", ["reference=frozen", "reference.path=NOWHERE/else/x"], "is no folder here"),
    ],
)
def test_what_the_user_can_mend(kind: str, words: list[str], said: str, runs: dict[str, Path], capsys):
    assert cli.main(["score", str(runs[kind]), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "said"),
    [("states", "does not hold the reference, which moved"), ("lora", "holds them without their adapter")],
)
def test_a_model_alone_is_not_always_enough(kind: str, said: str, runs: dict[str, Path], capsys):
    shutil.copytree(runs[kind], "copy")
    shutil.rmtree("copy/checkpoints")
    assert cli.main(["score", "copy"]) == 2
    assert said in capsys.readouterr().err
    shutil.rmtree("copy/model")
    assert cli.main(["score", "copy"]) == 2
    assert "has no model/ and no checkpoint of its last step" in capsys.readouterr().err


def test_a_reference_that_is_not_the_run_s_is_refused(runs: dict[str, Path], capsys):
    shutil.copytree(runs["best"], "copy")
    info = read_info(Path("copy"))
    info["hashes"]["reference"] = "0" * 64
    Path("copy/run.json").write_text(json.dumps(info))
    assert cli.main(["score", "copy"]) == 2
    assert "reference: 000000000000 in the run, " in capsys.readouterr().err
    assert cli.main(["score", "copy", "reference=uniform"]) == 0
