"""`dpo-lab explain` on a run, its numbers beside those of the run, and the record of training pairs."""

import csv
import hashlib
import html
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpo_lab.commands import cli
from dpo_lab.commands import train as command
from dpo_lab.data.reviews import reviews
from dpo_lab.explanation import attributions
from dpo_lab.run import read_run
from dpo_lab.run.files import write_json
from dpo_lab.run.kept import manifest_path
from tests.torture.processes import config

KNOBS = ("trainer.record_pairs=true", "data.label_noise=0.2", "trainer.max_steps=7", "trainer.validate_every=null")
PLACES = ("samples.num=0", "optimizer.lr=0.01", "optimizer.warmup_steps=0")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Seven steps over 34 pairs in windows of 8: two of the second epoch; dropped to one checkpoint at step 4 once."""
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        yield train(folder, "runs")


def train(folder: Path, runs: str, *more: str) -> Path:
    places = (
        f"runs_dir={folder}/{runs}",
        f"cache_dir={folder}/cache",
        "trainer.checkpoint_every=4",
        "trainer.keep_last=9",
    )
    assert command.train(config(*KNOBS, *PLACES, *places, *more), []) == 0
    (found,) = (folder / runs).glob("*/*/run.json")
    return found.parent


def rows_of(run: Path) -> list[dict[str, Any]]:
    return pq.read_table(run / "training_pairs.parquet").to_pylist()


def test_training_pairs_are_those_of_the_steps(run: Path):
    """8, 8, 8, 8, 2, 8, 8 pairs; the mean of each step's margins is the curve of that step."""
    rows = rows_of(run)
    metrics = {row["step"]: row for row in read_run(run).metrics if "train/rewards/margins" in row}
    for step, num in enumerate((8, 8, 8, 8, 2, 8, 8)):
        own = [row for row in rows if row["step"] == step]
        sums = {role: sum(row["reward"] for row in own if row["role"] == role) for role in ("chosen", "rejected")}
        assert len(own) == 2 * num and {row["split"] for row in own} == {"train"}
        margin = (sums["chosen"] - sums["rejected"]) / num
        assert margin == pytest.approx(metrics[step + 1]["train/rewards/margins"], abs=1e-6)


def test_a_run_that_went_on_has_the_same_training_pairs(run: Path):
    """Put back to the checkpoint of step 4, as after a kill at the end: rows behind it are cut off and made again."""
    folder = run.parents[2]
    shutil.copytree(folder / "runs", folder / "again")
    (again,) = (folder / "again").glob("*/*")
    last = again / "checkpoints" / "step-00000007.ckpt"
    last.unlink()
    manifest_path(last).unlink()
    write_json(again / "run.json", {**read_run(again).info, "status": "running"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        assert train(folder, "again") == again
    assert [entry["step"] for entry in read_run(again).info["resumed"]] == [4]
    assert rows_of(again) == rows_of(run)


def test_it_costs_no_number_and_no_file_where_it_is_off(run: Path, workplace: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        plain = train(run.parents[2], "plain", "trainer.record_pairs=false")
    assert read_run(plain).metrics == read_run(run).metrics and plain.name != run.name
    assert not (plain / "training_pairs.parquet").exists()


def explain(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, Path]:
    capsys.readouterr()
    assert cli.main(["explain", *map(str, words)]) == 0
    out = Path(capsys.readouterr().out.splitlines()[-1])
    return out.read_text(encoding="utf-8"), out


def test_tokens_add_up_to_the_reward_and_to_the_text(run: Path, capsys):
    """The sum over a response is its reward in predictions.parquet, as the loss (sigmoid) defines it."""
    page, out = explain(capsys, run, "--rows", "3")
    assert out == run / "explanations" / "tokens.html" and page.count("<article>") == 3
    recorded = {
        row["key"][:12]: row
        for row in pq.read_table(run / "predictions.parquet").to_pylist()
        if row["step"] == 7 and row["split"] == "val"
    }
    sides = re.findall(r"<h4>(\w+) <small>sum (\S+) over (\d+) tokens · key (\w+)</small>", page)
    assert len(sides) == 6
    for role, total, num, key in sides:
        row = recorded[key]
        assert row["role"] == role and row["length"] == int(num)
        assert float(total) == pytest.approx(row["reward"], abs=6e-4)
    first = re.findall(r'<div class="response">(.*?)</div></div>', page, re.DOTALL)[0]
    text = html.unescape(re.sub(r"<[^>]*>", "", first))
    own = reviews(num_pairs=34, num_validation_pairs=8, num_demonstrations=16).validation[0]
    assert text.startswith(str(own.responses[own.pairs[0][0]]))


def test_rows_by_key_and_another_run_beside_it(run: Path, capsys):
    key = next(row["key"] for row in rows_of(run))
    page, _ = explain(capsys, run, "--keys", key[:10], "splits=train", "--against", run, "out=two.html")
    assert page.count("<article>") == 1 and page.count("<h3>") == 2 and page.count(f"key {key[:12]}") == 2


def test_where_the_loss_has_no_reference_it_is_the_log_prob(run: Path, capsys):
    page, _ = explain(capsys, run, "--rows", "1", "loss=simpo", "out=simpo.html")
    assert "log-probability itself" in page


def test_order_of_learning(run: Path, capsys):
    """34 pairs, of which 7 are swapped (0.2 * 34 = 6.8); those of the first window were scored once after an update
    only in their second epoch, or not at all."""
    page, out = explain(capsys, run, "--learning")
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert out.name == "learning.html" and all(re.fullmatch(r"reviews pair \d+", row["source"]) for row in rows)
    means = [float(row["mean margin"]) for row in rows]
    assert means == sorted(means) and 26 <= len(rows) <= 34
    assert sum(row["swapped by data.label_noise"] == "True" for row in rows) in range(1, 8) and "AUROC" in page
    page, _ = explain(capsys, run, "--learning", "splits=val", "out=val.html")
    assert "8 pairs of val, each scored 1 times" in page and "Each pair was scored once" in page


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--keys", "zzz"), "no response of val has the key zzz"),
        (("--rows", "0"), "--rows: must be at least 1"),
        (("--learning", "splits=other"), "splits=other: must be train, val or test"),
        (("--learning", "--rows", "3"), "goes with no --rows"),
        (("--learning", "data=files", "data.path=x.jsonl"), "data: --learning reads what the run has recorded"),
        (("splits=nothing",), "there is no nothing"),
        (("--attributions", "integrated_gradients"), "tiny is no classifier and no span reader"),
        (("--steps", "0"), "--steps: must be at least 1, got 0"),
        (("--attributions", "none", "--steps", "9"), "goes with no --attribute, --steps or --baseline"),
        (("--learning", "--baseline", "pad"), "--learning attributes nothing"),
    ],
)
def test_what_is_refused(run: Path, words: tuple[str, ...], told: str, capsys):
    assert cli.main(["explain", str(run), *words]) == 2
    assert told in capsys.readouterr().err


def test_tables_for_wandb(run: Path, capsys):
    """A row a prompt, with coloured text side by side for both responses and both runs; a row a token; and the page.

    W&B keeps cells of HTML apart from the table: files of an artifact, which wait in a folder to be sent.
    """
    shutil.rmtree(run / "wandb", ignore_errors=True)
    explain(capsys, run, "--rows", "1", "--wandb", "--against", run, "out=sent.html")
    name, columns = f"{run.parent.name}/{run.name}", ("margin", "chosen", "rejected")
    sides = [f"{one}: {column}" for one in (name, f"{name} (2)") for column in columns]
    (table, files) = waiting(run, "margin")
    assert table["columns"] == ["source", "prompt", *sides] and len(table["data"]) == 1
    source, _, margin, chosen, rejected, *others = table["data"][0]
    assert others[0] == margin and source == "reviews validation pair 0"
    (own,) = reviews(num_pairs=34, num_validation_pairs=8, num_demonstrations=16).validation[:1]
    for cell, index in zip((chosen, rejected), own.pairs[0], strict=True):
        page = files[cell["sha256"]]
        assert str(own.responses[index]) in html.unescape(re.sub(r"<[^>]*>", "", page)) and "rgba(" in page
    rows = waiting(run, "place")[0]["data"]
    total = {role: sum(row[6] for row in rows if row[3] == role) / 2 for role in ("chosen", "rejected")}
    assert total["chosen"] - total["rejected"] == pytest.approx(margin, abs=1e-5)
    (page,) = run.glob("wandb/offline-run-*/files/media/html/explanation/page*.html")
    assert page.read_text(encoding="utf-8").count("<article>") == 1


def waiting(run: Path, column: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The table that waits to be sent and has such a column, and all files by their hash."""
    texts = {file.read_text(encoding="utf-8") for file in (run / "wandb/data/artifacts/staging").iterdir()}
    tables = [json.loads(text) for text in texts if text.startswith('{"_type": "table"')]
    (table,) = [table for table in tables if any(column in name for name in table["columns"])]
    return table, {hashlib.sha256(text.encode()).hexdigest(): text for text in texts}


def train_small(*words: str) -> Path:
    sizes = ("model.hidden_size=16", "model.num_layers=1", "model.num_heads=2")
    steps = ("trainer.max_steps=2", "trainer.global_batch_size=4", "samples.num=0", "optimizer.lr=0.01")
    rest = ("optimizer.warmup_steps=0", "logger=local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        assert cli.main(["train", *sizes, *steps, *rest, *words]) == 0
    (run,) = Path("runs/default").iterdir()
    return run


def attributed(page: str) -> list[tuple[float, float, float]]:
    """Of each response and margin: its number, that of the hidden text, and what the words add up to."""
    found = re.findall(r"<small>(\S+): (\S+) with every word hidden, (\S+) by the words</small>", page)
    return [(float(text), float(hidden), float(words)) for text, hidden, words in found]


def test_a_classifier_has_bars_and_words_that_they_come_from(workplace: Path, capsys):
    """Three classes, of which two were judged; a small classifier of its own, after two steps."""
    texts = [
        (f"{word} {number}", label) for number in range(8) for word, label in (("goal", "sport"), ("vote", "news"))
    ]
    lines = [json.dumps({"text": text, "label": label}) for text, label in [*texts, ("rain", "weather")]]
    Path("texts.jsonl").write_text("\n".join(lines))
    words = ["model=small_classifier", "start=none", "data=labelled", "data.path=texts.jsonl"]
    run = train_small(*words, "data.validation_fraction=0.2", "data.classes=[news,sport,weather]")
    page, _ = explain(capsys, run, "--rows", "1")
    assert page.count('class="bar"') == 3 and "<th>class</th>" in page
    judged = dict(re.findall(r'<td class="text">(\w+)</td><td>(\w*)</td>', page))
    assert sorted(judged) == ["news", "sport", "weather"] and sorted(judged.values()) == ["", "chosen", "rejected"]
    chances = [float(chance) for chance in re.findall(r"<td>(0\.\d{3})</td><td>0\.\d{3}</td></tr>", page)]
    assert sum(chances) == pytest.approx(1.0, abs=2e-3)

    values = dict(re.findall(r"<td>(chosen|rejected)</td><td>(\S+)</td>", page))
    margin = re.findall(r"chosen less rejected: (\S+)</p>", page)
    expected = [float(values["chosen"]), float(values["rejected"]), float(margin[0])]
    assert [text for text, _, _ in attributed(page)] == expected
    for text, hidden, by_words in attributed(page):
        assert by_words == pytest.approx(text - hidden, abs=1.1e-3)
    assert "hidden text" not in page and "[MASK], in 50 steps" in page and page.count("add up to that within") == 3
    assert 'class="warning"' not in page
    assert explain(capsys, run, "--rows", "1")[1].read_bytes() == page.encode()
    plain, _ = explain(capsys, run, "--rows", "1", "--attributions", "none")
    assert plain.count('class="bar"') == 3 and not attributed(plain)
    page, _ = explain(
        capsys, run, "--rows", "1", "--attribute", "log_prob", "--baseline", "pad", "--steps", "3", "--wandb"
    )
    chosen = re.findall(r"<td>chosen</td>.*?<td>(0\.\d{3})</td><td>0", page)
    assert math.exp(attributed(page)[0][0]) == pytest.approx(float(chosen[0]), abs=1e-3)
    assert "of log π, nats" in page and "[PAD], in 3 steps" in page
    assert waiting(run, "margin")[0]["columns"][-4:] == [
        "classes",
        *(f"attribution: {name}" for name in ("chosen", "rejected", "chosen less rejected")),
    ]


def test_a_span_reader_has_words_of_question_and_passage(workplace: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    windows = ("model.window=32", "model.stride=4")
    run = train_small("model=small_extractive_qa", *windows, "data=facts", "data.num_passages=6", "start=none")
    page, _ = explain(capsys, run, "--rows", "1", "--steps", "20")
    totals = [float(total) for total in re.findall(r"<small>sum (\S+) over 2 tokens", page)]
    texts = [text for text, _, _ in attributed(page)]
    assert texts[:2] == totals and texts[2] == pytest.approx(totals[0] - totals[1], abs=1.1e-3)
    assert page.count('<p class="note">question</p>') == 3 and page.count('<p class="note">passage</p>') == 3
    assert page.count("add up to that within") == 3 and " marked" in page
    monkeypatch.setattr(attributions, "find_spec", lambda name: None)
    monkeypatch.setattr("dpo_lab.assemble.scores.assemble_scores", lambda *_: pytest.fail("that comes first"))
    assert cli.main(["explain", str(run)]) == 2
    assert "pip install 'dpo-lab[attributions]'" in capsys.readouterr().err


REVIEWS = ("data.num_pairs=8", "data.num_validation_pairs=3", "data.num_demonstrations=8", "start=none")
FEW = ("model.vocab_size=300", *REVIEWS)
FILES = ("model.vocab_size=300", "data=files", "data.validation_fraction=0.2", "start=none")
LISTENERS = ("data.num_listeners=12", "data.length=8", "data.num_genres=3", "data.num_places=2", "start=none")
NEGATIVES = ("data.num_negatives=3", "loss=s_dpo")
SCORES = ["score 3", "score 2", "score 1"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((*FILES, "data.path=lists.jsonl", "loss=plackett_luce", "model.lora_rank=2", "reference=adapter_off"), SCORES),
        ((*FILES, "data.path=judged.jsonl", "loss=kto", "reference=ema", "reference.decay=0.5"), ["desirable"]),
        (("model=small_seq2seq", "data=articles", *FEW, "reference=uniform"), ["chosen", "rejected"]),
        (("model=small_recommender", "data=playlists", *LISTENERS, *NEGATIVES), ["chosen", *["rejected"] * 3]),
        (("model=small_vision_language", "data=shapes", *REVIEWS), ["chosen", "rejected"]),
    ],
    ids=["adapter_off", "ema", "uniform", "recommender", "vision_language"],
)  # fmt: skip
def test_every_other_policy_reference_and_judgement(words: tuple[str, ...], shown: list[str], workplace: Path, capsys):
    """Its responses stand there, each with what the run's last validation has of it."""
    single = [{"prompt": f"Say {n}", "response": f" {n}", "label": n % 2} for n in range(12)]
    lists = [{"prompt": f"Say {n}", "responses": [f" {n}", " a", " b"], "scores": [1, 3, 2]} for n in range(12)]
    for name, rows in (("judged", single), ("lists", lists)):
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = train_small(*words)
    page, _ = explain(capsys, run, "--rows", "1")
    sides = re.findall(r"<h4>([\w ]+) <small>sum (\S+) over \d+ tokens · key (\w+)</small>", page)
    assert [name for name, _, _ in sides] == shown
    rows = pq.read_table(run / "predictions.parquet", filters=[("step", "==", 2)]).to_pylist()
    scored = {row["key"][:12]: row for row in rows}
    for _, total, key in sides:
        ratio = scored[key]["policy_log_prob"] - (scored[key]["reference_log_prob"] or 0.0)
        assert float(total) == pytest.approx(0.1 * ratio, abs=1e-3 + 1e-3 * abs(ratio))
