"""Steps on rows through the commands: recorded with the run, part of its id, and not on rows that are only scored."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpo_lab.commands import cli
from tests.small import SMALL, run_train

QUICK = (*SMALL[:4], "start.max_steps=2", "start.global_batch_size=8", "trainer.global_batch_size=8", "logger=local")
DATA = ("data=files", "data.path=rows.jsonl", "data.validation_fraction=0.2", "trainer.max_steps=2", "samples.num=0")
STEPS = ("word_dropout", "drop_duplicates", "clean")


@pytest.fixture
def rows(workplace: Path) -> list[dict[str, Any]]:
    made = [
        {"prompt": f"say the number {n}\u200b", "chosen": f" it is {n}", "rejected": f" it is not {n}"}
        for n in range(30)
    ]
    (workplace / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*made, *made[:5]]))
    return made


@pytest.mark.usefixtures("rows")
def test_a_run_says_what_was_done_to_its_rows_and_scores_others_without_copies(capsys: pytest.CaptureFixture[str]):
    asked = (f"prepare=[{','.join(STEPS)}]", "prepare.word_dropout.rate=0.4", *DATA, *QUICK)
    run = run_train(*asked)
    steps = run.info["data_report"]["prepared"]
    assert [step["step"] for step in steps] == ["drop_duplicates", "clean", "word_dropout"]
    assert [(step["read"], step["dropped"], step["changed"]) for step in steps[:2]] == [(35, 5, 0), (30, 0, 30)]
    assert steps[2]["kept"] == run.info["data_report"]["num_train"] > 30
    assert list(run.config["prepare"]) == list(STEPS)
    said = capsys.readouterr()
    assert "prepared by drop_duplicates: 35 rows, 5 dropped, 30 left" in said.out + said.err

    assert cli.main(["train", *asked]) == 0
    assert len(list(Path("runs/default").iterdir())) == 1, "the same steps are the same run"
    other = run_train(*asked[:1], "prepare.word_dropout.rate=0.2", *asked[2:])
    assert other.info["hashes"]["data"] != run.info["hashes"]["data"]

    Path("more.jsonl").write_text('{"prompt": "say \u200bone", "chosen": " one", "rejected": " two"}\n' * 2)
    capsys.readouterr()
    assert cli.main(["score", str(run.path), "data.path=more.jsonl", "out=scored.parquet"]) == 0
    scored = pq.read_table("scored.parquet").to_pylist()
    assert {row["source"] for row in scored} == {"more.jsonl row 1"}, "a copy is left out as before, and none is made"


def test_faults_of_steps_are_found_before_anything_is_read(workplace: Path, capsys: pytest.CaptureFixture[str]):
    words = ["prepare=[synonyms,word_dropout]", "prepare.synonyms.path=absent.tsv", "prepare.word_dropout.rate=1.5"]
    assert cli.main(["audit", *words]) == 2
    said = capsys.readouterr().err
    assert "prepare.synonyms.path: no such file: absent.tsv" in said
    assert "prepare.word_dropout.rate: must be less than 1" in said
    assert "prepare: data=reviews takes no steps" in said
    assert cli.main(["audit", "data=files", "data.path=a.jsonl", "prepare=[cleen]"]) == 2
    assert "no such prepare; did you mean clean?" in capsys.readouterr().err
