"""`dpo-lab evaluate`: what fits each kind of policy, from the run folder alone, and what is refused."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpo_lab.commands import cli
from dpo_lab.commands import train as command
from dpo_lab.run import read_run
from tests.chat.server import longer_is_better, serving
from tests.commands.test_encoders import asked, labelled  # noqa: F401 - fixtures
from tests.commands.test_other_policies import ITEMS, LISTENERS
from tests.small import SMALL, run_train
from tests.torture.processes import config

TOKEN = "planted-key-of-a-judge-0123456789"
QUICK = ("trainer.max_steps=2", "trainer.global_batch_size=8", "samples.num=0", "logger=local")
ENCODER = ("model.hidden_size=16", "model.num_layers=1", "model.num_heads=2")
START = ("start.max_steps=2", "start.global_batch_size=8")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of a causal model on reviews, with a test."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        places = (f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", "name=writer")
        knobs = ("trainer.max_steps=4", "trainer.validate_every=null", "samples.num=6", "optimizer.lr=0.01")
        assert command.train(config(*knobs, *places), []) == 0
        (run,) = (folder / "runs/writer").iterdir()
        yield run


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """What the file says, the rows beside it, and what was printed."""
    capsys.readouterr()
    assert cli.main(["evaluate", *map(str, words)]) == 0
    printed = capsys.readouterr().out
    out = Path(printed.splitlines()[-1])
    rows = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    return json.loads(out.read_text()), rows, printed


def contents(run: Path) -> dict[str, bytes]:
    """Of what the run has recorded; W&B's logs are its own."""
    files = (path for path in run.rglob("*") if path.is_file() and not {"evaluation", "wandb"} & set(path.parts))
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def test_a_model_that_is_asked_over_http(
    writer: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Every contest in both orders; the same command again asks nobody and gives the same bytes; the key is nowhere."""
    monkeypatch.setenv("JUDGE_ACCESS", TOKEN)
    with serving(longer_is_better) as server:
        of_judge = (f"judge.url={server.url}", "judge.model=big one", "judge.key_variable=JUDGE_ACCESS")
        words = (writer, "num_samples=6", "judge=endpoint", *of_judge, f"cache_dir={writer.parents[2]}/cache")
        found, rows, printed = evaluate(capsys, *words)
        assert printed.endswith("evaluation/val-endpoint-big-one.json\n")
        differ = [row for row in rows if row["response"] != row["opponent"]]
        assert len(server.calls) == 2 * len({(row["response"], row["opponent"]) for row in differ})
        assert all(call.headers["Authorization"] == f"Bearer {TOKEN}" for call in server.calls)
        for row in rows:
            own, other = len(row["response"]), len(row["opponent"])
            assert row["score"] == (0.5 if own == other else float(own > other))
        assert found["details"]["verdicts"]["orders_agree"] == 1.0
        file, num_calls = writer / "evaluation/val-endpoint-big-one.json", len(server.calls)
        first = file.read_bytes(), file.with_suffix(".jsonl").read_bytes()
        evaluate(capsys, *words)
        assert len(server.calls) == num_calls
    assert (file.read_bytes(), file.with_suffix(".jsonl").read_bytes()) == first
    kept = [path for path in writer.parents[2].rglob("*") if path.is_file()]
    assert any("judge" in path.parts for path in kept)
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def mirrors(run: Path) -> set[Path]:
    return set((run / "wandb").glob("offline-run-*/*.wandb"))


def test_what_writes_text_by_a_known_reward(writer: Path, capsys: pytest.CaptureFixture[str]):
    """The KL is the mean of the rows; the record of the run stays; the same command gives the same bytes."""
    before = contents(writer)
    words = (writer, "num_samples=20", "max_new_tokens=6", f"cache_dir={writer.parents[2]}/cache")
    found, rows, printed = evaluate(capsys, *words)
    figures = found["figures"]
    assert set(figures) == {
        *("length", "kl", "win_rate", "win_rate_controlled", "reward", "opponent_reward", "reward_gain"),
        *("accuracy", "by_length/accuracy", "by_reference/accuracy"),
    }
    last = read_run(writer).metrics[-1]
    assert figures["accuracy"]["value"] == pytest.approx(last["val/rewards/accuracies"])
    assert figures["accuracy"]["num"] == last["val/num_pairs"]
    assert printed.splitlines()[-1] == str(writer / "evaluation/val.json")
    shifts = [row["policy_log_prob"] - row["reference_log_prob"] for row in rows]
    assert figures["kl"]["value"] == pytest.approx(sum(shifts) / 20)
    assert figures["win_rate"]["value"] == pytest.approx(sum(row["score"] for row in rows) / 20)
    assert figures["kl"]["low"] < figures["kl"]["value"] < figures["kl"]["high"]
    assert "Monte Carlo" in found["details"]["kl_estimator"] and found["details"]["against"] == "reference"
    assert max(row["length"] for row in rows) <= 6 and len({row["prompt"] for row in rows}) == 5
    assert all(row["response"] != row["opponent"] for row in rows), "drawn by seeds of their own"
    first = {name: (writer / f"evaluation/{name}").read_bytes() for name in ("val.json", "val.jsonl")}
    evaluate(capsys, *words)
    assert first == {name: (writer / f"evaluation/{name}").read_bytes() for name in first}
    assert contents(writer) == before


def test_the_figures_of_a_run_that_was_mirrored_go_to_wandb(capsys: pytest.CaptureFixture[str]):
    """As a W&B run of its own, whose files are read back; the rows stay where no texts may go."""
    words = ("loss=simpo", *SMALL[:-1], *QUICK[:-1], "logger.mode=offline", "logger.samples=false")
    run = run_train(*words)
    (own,) = mirrors(run.path)
    before, mirrored = contents(run.path), own.read_bytes()
    found, _, _ = evaluate(capsys, run.path, "num_samples=4")
    assert contents(run.path) == before and own.read_bytes() == mirrored
    (file,) = mirrors(run.path) - {own}
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "evaluation/val/win_rate_controlled_high" in said and '"evaluate"' in said
    assert "Review of a" not in said
    assert found["figures"]["win_rate"]["num"] == 4
    evaluate(capsys, run.path, "num_samples=4", "wandb=false")
    assert mirrors(run.path) == {own, file}


def test_the_test_and_other_data_are_looked_at_where_asked(writer: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": "Review of a film:", "chosen": " A great plot.", "rejected": " A dull plot."}]
    rows.append({"prompt": "Review of a pen:", "chosen": " Dull.", "rejected": " Great."})
    Path("new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    of_test, _, _ = evaluate(capsys, writer, "splits=test", "num_samples=4", "out=of_test.json")
    assert of_test["split"] == "test"
    given, drawn, printed = evaluate(capsys, writer, "data=files", "data.path=new.jsonl", "num_samples=5", "weights=4")
    assert printed.splitlines()[-1].startswith(f"{writer}/evaluation/new-") and printed.endswith("-train-4.json\n")
    of_judgements = {"accuracy", "by_length/accuracy", "by_reference/accuracy"}
    assert set(given["figures"]) == {"length", "kl", *of_judgements}, "nothing knows the reward of such data"
    assert given["figures"]["by_length/accuracy"]["value"] == 0.5, "a dull word has more tokens, once chosen"
    assert [row["source"] for row in drawn] == [f"new.jsonl row {number}" for number in (1, 2, 1, 2, 1)]


def test_an_encoder_decoder_against_what_the_data_prefers(capsys: pytest.CaptureFixture[str]):
    run = run_train("model=small_seq2seq", "loss=simpo", *SMALL, *QUICK)
    found, rows, _ = evaluate(capsys, run.path, "num_samples=7", "judge=known_reward", "against=chosen")
    chosen = {row["opponent"] for row in rows}
    assert all(text.strip().endswith(".") for text in chosen) and "kl" not in found["figures"]
    assert (run.path / "evaluation/val-known_reward-chosen.json").is_file()
    assert cli.main(["evaluate", str(run.path), "against=reference"]) == 2
    assert "its loss takes none; against=chosen" in capsys.readouterr().err


@pytest.mark.usefixtures("labelled")
def test_a_classifier(labelled: tuple[str, ...], capsys: pytest.CaptureFixture[str]):  # noqa: F811
    run = run_train(*labelled, "model=small_classifier", *ENCODER, *START, "loss=sft", "samples.num=0")
    found, rows, printed = evaluate(capsys, run.path)
    figures, details, last = found["figures"], found["details"], run.metrics[-1]
    for name in ("accuracy", "macro_f1", "log_loss", "calibration_error"):
        assert figures[name]["value"] == pytest.approx(last[f"val/{name}"])
        assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
    assert 0 < figures["brier"]["value"] < 2
    confusion = details["confusion"]
    assert sum(map(sum, confusion)) == len(rows) == 40
    assert [sum(line) for line in confusion] == [
        sum(row["gold"] == name for row in rows) for name in details["classes"]
    ]
    hits = sum(row["gold"] == row["decided"] for row in rows)
    assert sum(confusion[number][number] for number in range(3)) == hits == round(figures["accuracy"]["value"] * 40)
    assert sum(bin["num"] for bin in details["calibration_bins"]) == 40 and len(details["calibration_bins"]) == 10
    assert printed.startswith("val: accuracy 0.") and rows[0]["source"] == "test.jsonl row 1"
    assert cli.main(["evaluate", str(run.path), "judge=known_reward"]) == 2
    assert "judge: is of responses that are drawn and compared, and model=small_classifier" in capsys.readouterr().err


@pytest.mark.usefixtures("asked")
def test_a_span_reader(asked: tuple[str, ...], capsys: pytest.CaptureFixture[str]):  # noqa: F811
    run = run_train(*asked, "model=small_extractive_qa", *ENCODER, "start=none", "loss=sft", "samples.num=0")
    found, rows, _ = evaluate(capsys, run.path)
    for name in ("exact_match", "token_f1"):
        assert found["figures"][name]["value"] == pytest.approx(run.metrics[-1][f"val/{name}"])
        assert found["figures"][name]["value"] == pytest.approx(sum(row[name] for row in rows) / len(rows))
    assert 1 < found["figures"]["token_f1"]["num_clusters"] == found["details"]["num_passages"] < len(rows)


def test_a_recommender(capsys: pytest.CaptureFixture[str]):
    run = run_train(*ITEMS, *LISTENERS, "loss=s_dpo", "start.max_steps=2", *QUICK)
    found, rows, _ = evaluate(capsys, run.path, "cutoffs=[3,10]")
    figures = found["figures"]
    for name in ("ndcg@10", "hit@10", "mrr", "popularity/mrr"):
        assert figures[name]["value"] == pytest.approx(run.metrics[-1][f"val/{name}"])
        width = figures[name]["high"] - figures[name]["low"]
        assert width == pytest.approx(2 * run.metrics[-1][f"val/{name}_ci95"])
    assert figures["hit@3"]["value"] == sum(row["rank"] <= 3 for row in rows) / len(rows)
    assert figures["ndcg@3"]["value"] == pytest.approx(
        sum(1 / math.log2(1 + row["rank"]) for row in rows if row["rank"] <= 3) / len(rows)
    )
    assert "hit@1" not in figures and found["details"]["cutoffs"] == [3, 10]


def test_what_names_items_ranks_the_catalogue(capsys: pytest.CaptureFixture[str]):
    """Users 0 to 5 met six of eight films in turn: validated behind four, so of four films left. The same popularity as
    a recommender's, who knows the films by their ids."""
    clicks = [f"{user},{(user + step) % 8 + 1},{step}" for user in range(6) for step in range(6)]
    Path("clicks.csv").write_text("\n".join(["user,item,time", *clicks]) + "\n")
    names = ("Alien", "Emma", "Emma", "Heat", "Up", "Ran", "Big", "Cat")
    Path("names.csv").write_text("item,name\n" + "".join(f"{item},{name}\n" for item, name in enumerate(names, 1)))
    of_data = ("data=interactions", "data.path=clicks.csv", "data.min_item_users=1", "loss=sft")
    named = ("data.text=names", "data.names_path=names.csv", "start=none")
    run = run_train(*of_data, *named, *SMALL[:4], *QUICK)
    assert cli.main(["evaluate", str(run.path), "num_samples=0"]) == 0
    assert "val: 24 names to score behind 6 prompts, of a catalogue of 8" in capsys.readouterr().err
    found, rows, _ = evaluate(capsys, run.path, "num_samples=0", "cutoffs=[3,4]")
    figures, file = found["figures"], run.path / "evaluation/val.json"
    assert set(figures) == {f"{of}{name}" for of in ("", "popularity/") for name in (*RANKED_TO_3, "ndcg@4", "hit@4")}
    assert figures["mrr"]["value"] == pytest.approx(sum(1 / row["rank"] for row in rows) / 6)
    assert figures["hit@4"]["value"] == 1.0 and {row["num_ranked"] for row in rows} == {4}
    assert all(row["top"][row["rank"] - 1] == row["name"] for row in rows) and rows[0]["source"] == "user 0 item 5"
    assert {name for row in rows for name in row["top"]} >= {"Emma [2]", "Emma [3]"}
    first = file.read_bytes(), file.with_suffix(".jsonl").read_bytes()
    evaluate(capsys, run.path, "num_samples=0", "cutoffs=[3,4]")
    assert (file.read_bytes(), file.with_suffix(".jsonl").read_bytes()) == first
    drawn, mixed, printed = evaluate(capsys, run.path, "num_samples=2", "num_candidates=1")
    assert printed.endswith("evaluation/val-candidates-1.json\n") and drawn["details"]["num_names_scored"] == 12
    assert {"length", "mrr"} <= set(drawn["figures"]) and drawn["figures"]["hit@5"]["value"] == 1.0
    assert ["rank" in row for row in mixed] == [False] * 2 + [True] * 6
    nothing, rows, _ = evaluate(capsys, run.path, "num_samples=2", "num_candidates=0")
    assert "mrr" not in nothing["figures"] and len(rows) == 2
    by_id = run_train(*of_data, *ITEMS[:3], "start=none", *QUICK)
    known, _, _ = evaluate(capsys, by_id.path, "cutoffs=[3,4]")
    for name in ("popularity/mrr", "popularity/ndcg@3"):
        assert known["figures"][name] == figures[name]
    assert cli.main(["evaluate", str(by_id.path), "num_candidates=3"]) == 2
    assert "num_candidates: is of a policy that names items, and model=small_recommender" in capsys.readouterr().err


RANKED_TO_3 = ("ndcg@3", "hit@3", "mrr")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no such folder, and no run under"),
        (["RUN", "judge=knwon"], "judge=knwon: no such judge; known: "),
        (["RUN", "num_samples=-1"], "num_samples: must be at least 0, got -1"),
        (["RUN", "num_samples=0", "judge=known_reward"], "nothing is drawn that judge=known_reward could compare"),
        (["RUN", "num_sample=5"], "num_sample"),
        (["RUN", "splits=dev"], "there is no dev; the data has train, val, test"),
        (["RUN", "out=a.parquet"], "must end in .json"),
        (["RUN", "val"], "val: not an override"),
        (["RUN", "cutoffs=[3]"], "cutoffs: is of a ranking, and this data has no catalogue"),
        (["RUN", "num_candidates=9"], "num_candidates: is of a ranking, and this data has no catalogue"),
        (["RUN", "num_candidates=-1"], "num_candidates: must be at least 0 or null, got -1"),
        (["RUN", "judge=endpoint", "judge.url=http://127.0.0.1:1/v1"], "judge.model: must be given: judge.model=VALUE"),
        (["RUN", "judge=endpoint", "judge.url=http://127.0.0.1:1/v1", "judge.model=m"], "nobody answers there"),
        (["RUN", "judge=reward_model", "judge.path=./nowhere"], "there is no such folder"),
        (["RUN", "weights=77"], "cannot be used"),
        (["RUN", "judge=known_reward", "data=files", "data.path=new.jsonl"], "does not know the reward of a response"),
    ],
)
def test_what_the_user_can_mend(words: list[str], said: str, writer: Path, capsys: pytest.CaptureFixture[str]):
    Path("new.jsonl").write_text(json.dumps({"prompt": "a", "chosen": " b", "rejected": " c"}) + "\n")
    assert cli.main(["evaluate", *(str(writer) if word == "RUN" else word for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_single_judgements_by_the_area_under_the_curve(capsys: pytest.CaptureFixture[str]):
    """The same numbers as those of predictions.parquet give, pair by pair of a good and a bad response."""
    run = run_train("loss=kto", *SMALL, *QUICK)
    found, rows, _ = evaluate(capsys, run.path, "num_samples=0")
    assert rows == [] and set(found["figures"]) == {"auc", "by_length/auc", "by_reference/auc"}
    table = pq.read_table(run.path / "predictions.parquet").to_pylist()
    last = [row for row in table if row["step"] == run.metrics[-1]["step"]]
    for name, column in (("auc", "reward"), ("by_length/auc", "length"), ("by_reference/auc", "reference_log_prob")):
        good, bad = ([row[column] for row in last if row["role"] == role] for role in ("chosen", "rejected"))
        wins = sum((a > b) + (a == b) / 2 for a in good for b in bad)
        assert found["figures"][name]["value"] == pytest.approx(wins / (len(good) * len(bad)), abs=1e-6)
    imitated = run_train("loss=sft", *SMALL, *QUICK)
    assert cli.main(["evaluate", str(imitated.path), "num_samples=0"]) == 2
    assert "val has no judgement that the loss of this run sees" in capsys.readouterr().err


def unfinished(run: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    info = read_run(run).info
    change(info)
    (copy := Path(name)).mkdir()
    (copy / "run.json").write_text(json.dumps(info))
    (copy / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    return copy


def test_a_run_that_has_not_finished_is_told(writer: Path, capsys: pytest.CaptureFixture[str]):
    copy = unfinished(writer, "copy", lambda info: info.update(status="interrupted"))
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "has not finished: its status is interrupted" in capsys.readouterr().err
    assert cli.main(["evaluate", str(copy), "weights=last"]) == 2
    assert "has no sound checkpoint" in capsys.readouterr().err
